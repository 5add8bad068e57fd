import { expect, it } from "vitest";
import type { Host, Vm } from "../api/client";
import { seenWith } from "./seen";

const host = (id: string, status?: object) => ({ meta: { id, name: id }, status }) as unknown as Host;
const vm = (on: string, state: string) => ({ status: { host: on, state } }) as unknown as Vm;

it("does not say that machines of a host that cannot be asked run", () => {
  const seen = seenWith([host("up", {}), host("away")]);
  expect(seen(vm("up", "running"))).toBe("running");
  expect(seen(vm("away", "running"))).toBe("unknown");
  expect(seen(vm("away", "paused"))).toBe("unknown");
  // Nothing on the host makes it another.
  expect(seen(vm("away", "stopped"))).toBe("stopped");
  expect(seen(vm("away", "failed"))).toBe("failed");
});

it("leaves states as they are while hosts are not known", () =>
  expect(seenWith(undefined)(vm("away", "running"))).toBe("running"));
