// What can be done to a machine: the likely thing as a button, the rest in a menu, the dangerous after a question.
import { useState } from "react";
import { ApiError, api, call, type Vm } from "../api/client";
import { useAction } from "../api/queries";
import { ACTIONS, primary, refusal, type Action } from "../lib/actions";
import { useFollow } from "./Orders";
import { Button, Confirm, Menu } from "./ui";

const REST: Action[] = ["start", "stop", "pause", "resume", "reset", "force-stop", "delete"];

export function VmActions({ vm, onDeleted }: { vm: Vm; onDeleted?: () => void }) {
  const action = useAction();
  const follow = useFollow();
  const [asked, setAsked] = useState<Action>();
  const [volumes, setVolumes] = useState(false);
  const [error, setError] = useState<unknown>();
  const name = vm.meta.name;
  const first = primary(vm.status.state);

  const run = async (what: Action) => {
    const label = `${ACTIONS[what].label} ${name}`;
    try {
      const task = await action.mutateAsync({ vm, action: what });
      setAsked(undefined);
      follow(label, task);
      if (what === "delete") {
        if (volumes) void removeVolumes(vm, follow);
        onDeleted?.();
      }
    } catch (failed) {
      if (ACTIONS[what].confirm) setError(failed);
      else follow(label, failed instanceof Error ? failed : new Error(String(failed)));
    }
  };
  const choose = (what: Action) => {
    setError(undefined);
    setVolumes(false);
    if (ACTIONS[what].confirm) setAsked(what);
    else void run(what);
  };

  const disks = vm.spec.disks?.length ?? 0;
  return (
    <div className="buttons">
      <Button
        kind={first === "stop" ? "plain" : "primary"}
        disabled={action.isPending}
        refusal={refusal(first, vm.status.state)}
        aria-label={`${ACTIONS[first].label} ${name}`}
        onClick={() => choose(first)}
      >
        {ACTIONS[first].label}
      </Button>
      <Menu
        label={`More for ${name}`}
        items={REST.filter((what) => what !== first).map((what) => ({
          label: ACTIONS[what].label,
          danger: ACTIONS[what].danger,
          refusal: refusal(what, vm.status.state),
          run: () => choose(what),
        }))}
      />
      {asked && (
        <Confirm
          title={`${ACTIONS[asked].label} ${name}?`}
          verb={ACTIONS[asked].label}
          busy={action.isPending}
          error={error}
          onConfirm={() => void run(asked)}
          onClose={() => setAsked(undefined)}
        >
          <p>{ACTIONS[asked].confirm}</p>
          {asked === "delete" && disks > 0 && (
            <label className="check">
              <input
                type="checkbox"
                checked={volumes}
                onChange={(event) => setVolumes(event.target.checked)}
              />
              Delete its {disks === 1 ? "disk" : `${disks} disks`} and all that is on{" "}
              {disks === 1 ? "it" : "them"}
            </label>
          )}
        </Confirm>
      )}
    </div>
  );
}

/** Removes a machine's volumes once it is gone. */
async function removeVolumes(vm: Vm, follow: (label: string, what: Error) => void) {
  const gone = async () => {
    try {
      await call(api.GET("/vms/{id}", { params: { path: { id: vm.meta.id } } }));
      return false;
    } catch (error) {
      return error instanceof ApiError && error.problem.status === 404;
    }
  };
  for (let tries = 0; !(await gone()); tries += 1) {
    if (tries > 120)
      return follow(`Delete the disks of ${vm.meta.name}`, new Error("The machine is still there."));
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  for (const disk of vm.spec.disks ?? []) {
    try {
      await call(api.DELETE("/volumes/{id}", { params: { path: { id: disk.volume } } }));
    } catch (error) {
      follow(`Delete a disk of ${vm.meta.name}`, error instanceof Error ? error : new Error(String(error)));
    }
  }
}
