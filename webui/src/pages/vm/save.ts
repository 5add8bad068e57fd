// Changing a machine's wanted hardware: the whole of it, and only what one saw.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, call, type Vm, type VmSpec } from "../../api/client";
import { useRefusal } from "../../api/rights";

export function useSaveSpec(vm: Vm, done: () => void) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (change: Partial<VmSpec>) =>
      call(
        api.PATCH("/vms/{id}", {
          params: { path: { id: vm.meta.id } },
          headers: { "If-Match": `"${vm.meta.revision}"` },
          body: { spec: { ...vm.spec, ...change } },
        }),
      ),
    onSuccess: (fresh) => {
      client.setQueryData(["vm", vm.meta.id], fresh);
      void client.invalidateQueries({ queryKey: ["volumes"] });
      done();
    },
  });
}

/** Why a machine's hardware cannot be changed by this person. */
export function useWriteRefusal(vm: Vm) {
  return useRefusal()("vm.write", { kind: "vm", id: vm.meta.id, labels: vm.meta.labels });
}

/** Whether the machine has what it was started with, so that not every change takes effect at once. */
export const runs = (vm: Vm) => vm.status.state !== "stopped" && vm.status.state !== "failed";

/** Why nothing of the machine's hardware can be changed now. */
export const moving = (vm: Vm) =>
  vm.status.moving_to
    ? "The machine is being moved to another host: wait for it, or cancel the move."
    : undefined;
