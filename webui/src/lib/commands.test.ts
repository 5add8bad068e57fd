import { expect, it } from "vitest";
import { best, rank } from "./commands";

it("wants every word, and likes beginnings", () => {
  expect(rank("Start web1", "web start")).toBeDefined();
  expect(rank("Start web1", "stop")).toBeUndefined();
  expect(rank("web", "web")!).toBeLessThan(rank("my-web", "web")!);
  expect(rank("my-web", "web")!).toBeLessThan(rank("cobweb", "web")!);
});

it("gives the best first, and not too many", () => {
  const all = ["cobweb", "web10", "web1", "db"].map((label) => ({ id: label, label, hint: "" }));
  expect(best(all, "web", 2).map(({ id }) => id)).toEqual(["web1", "web10"]);
  expect(best(all, "", 9)).toHaveLength(4);
  expect(best([{ id: "x", label: "Networks", hint: "", words: "bridge" }], "bridge", 9)).toHaveLength(1);
});

it("puts what is likelier meant first", () => {
  const all = [
    { id: "disk", label: "web", hint: "", weight: 0.5 },
    { id: "vm", label: "web1", hint: "" },
  ];
  expect(best(all, "web", 2).map(({ id }) => id)).toEqual(["vm", "disk"]);
});
