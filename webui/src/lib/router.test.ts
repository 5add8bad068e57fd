import { expect, it } from "vitest";
import { href, parse, type Route } from "./router";

it.each<Route>([
  { page: "vms" },
  { page: "create-vm" },
  { page: "vm", id: "a/b c" },
  { page: "images" },
  { page: "activity" },
])("%j has an address of its own", (route) => expect(parse(href(route))).toEqual(route));

it("leads to the machines from anywhere unknown", () => {
  for (const hash of ["", "#", "#/", "#/nowhere", "#/vms/"]) expect(parse(hash)).toEqual({ page: "vms" });
});
