import { expect, it } from "vitest";
import { guess } from "./guess";

it.each([
  ["debian-12.qcow2", { name: "debian-12", kind: "disk", format: "qcow2" }],
  ["my disk (1).img", { name: "my-disk-1-", kind: "disk", format: "raw" }],
  ["vmlinuz-6.1.0-39-amd64", { name: "vmlinuz-6.1.0-39-amd64", kind: "kernel", format: "raw" }],
  ["initrd.img", { name: "initrd", kind: "initrd", format: "raw" }],
  ["debian-12-netinst.iso", { name: "debian-12-netinst", kind: "iso", format: "raw" }],
  ["…", { name: "image", kind: "disk", format: "qcow2" }],
])("%s", (file, expected) => expect(guess(file)).toEqual(expected));
