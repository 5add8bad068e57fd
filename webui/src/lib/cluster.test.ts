import { expect, it } from "vitest";
import type { Member } from "../api/client";
import { standing } from "./cluster";

const member = (name: string, reachable?: boolean): Member => ({
  host: name,
  name,
  role: "voter",
  ...(reachable === undefined ? {} : { reachable }),
});

it("says how a cluster stands", () => {
  expect(standing({ quorum: true, members: [member("a", true)] })).toEqual({ ok: true, word: "one host" });
  expect(standing({ quorum: true, members: [member("a", true), member("b")] }).ok).toBe(true);
  expect(standing({ quorum: true, members: [member("a", true), member("b", false)] })).toEqual({
    ok: false,
    word: "1 of 2 hosts do not answer",
  });
  expect(standing({ quorum: false, members: [] })).toEqual({ ok: false, word: "no majority" });
});
