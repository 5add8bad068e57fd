// Makes src/api/schema.d.ts from the API's checked-in document. `--check` only says whether it is up to date.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import openapi, { astToString } from "openapi-typescript";

const DOCUMENT = new URL("../../api/openapi.json", import.meta.url);
const TYPES = new URL("../src/api/schema.d.ts", import.meta.url);
const check = process.argv.includes("--check");

if (!existsSync(DOCUMENT)) {
  console.error("api/openapi.json is missing: the types cannot be compared with it.");
  process.exit(check ? 0 : 1);
}
const document = JSON.parse(readFileSync(DOCUMENT, "utf8"));
for (const path of Object.values(document.paths)) {
  for (const operation of Object.values(path)) {
    // Names of operations need not be unique across paths; a type is looked up by path and method alone.
    delete operation.operationId;
  }
}
const HEAD = "// Made from api/openapi.json by `npm run types`. Not edited by hand.\n\n";
const text = HEAD + astToString(await openapi(document));
if (!check) writeFileSync(TYPES, text);
else if (readFileSync(TYPES, "utf8") !== text) {
  console.error("src/api/schema.d.ts does not fit api/openapi.json: run `npm run types`.");
  process.exit(1);
}
