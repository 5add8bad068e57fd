import { describe, expect, it } from "vitest";
import { filter, parse, type Fields } from "./search";

interface Row {
  name: string;
  state: string;
  cpus: number;
  memory: number;
}
const fields: Fields<Row> = {
  name: (row) => row.name,
  state: (row) => row.state,
  cpus: (row) => row.cpus,
  memory: (row) => row.memory,
};
const rows: Row[] = [
  { name: "web1", state: "running", cpus: 2, memory: 2 ** 30 },
  { name: "web2", state: "stopped", cpus: 4, memory: 4 * 2 ** 30 },
  { name: "db one", state: "running", cpus: 8, memory: 16 * 2 ** 30 },
];
const found = (text: string) => rows.filter(filter(text, fields) ?? (() => true)).map((row) => row.name);

describe("a search", () => {
  it.each([
    ["", ["web1", "web2", "db one"]],
    ["WEB", ["web1", "web2"]],
    ["web running", ["web1"]],
    ["-web", ["db one"]],
    ["state:running", ["web1", "db one"]],
    ["state:stopped,paused", ["web2"]],
    ["-state:running", ["web2"]],
    ["-state:running,stopped", []],
    ['"db one"', ["db one"]],
    ['name:"db one"', ["db one"]],
    ["cpus>2", ["web2", "db one"]],
    ["cpus>=2 cpus<8", ["web1", "web2"]],
    ["cpus=4", ["web2"]],
    ["memory>=4G", ["web2", "db one"]],
    ["-memory>4G", ["web1", "web2"]],
    ["memory>much", []],
    ["state=run", []],
    ["state=running web", ["web1"]],
    ["4", []],
  ])("%s", (text, names) => expect(found(text)).toEqual(names));
});

it("takes an unknown field as words, and half-typed terms calmly", () => {
  expect(parse("color:red", ["name"])).toEqual([{ negated: false, how: ":", values: ["color:red"] }]);
  expect(parse("state:,", ["state"])).toEqual([]);
  expect(parse('-"open', ["state"])).toEqual([{ negated: true, how: ":", values: ["open"] }]);
  expect(filter("   ", fields)).toBeUndefined();
});
