// A host in maintenance: it is emptied, and takes no machines until that is ended.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, call, type Host } from "../../api/client";
import { useTasks, useVms } from "../../api/queries";
import { FormDialog } from "../../components/Dialog";
import { useFollow } from "../../components/shell/Orders";
import { Cancel, TaskState } from "../../components/shell/TaskPane";
import { Target, useTargets } from "../../components/Target";
import { Card, Check, State } from "../../components/ui";
import { evacuation } from "../../lib/moves";

/** Begins or ends the maintenance of a host. */
export function useMaintenance(host: Host) {
  const follow = useFollow();
  const client = useQueryClient();
  return useMutation({
    mutationFn: (wish: { on: boolean; shut_down: boolean }) =>
      call(api.POST("/hosts/{id}/maintenance", { params: { path: { id: host.meta.id } }, body: wish })),
    onSuccess: (task, { on }) => follow(`${on ? "Evacuate" : "Reopen"} ${host.meta.name}`, task),
    onSettled: () => client.invalidateQueries({ queryKey: ["hosts"] }),
  });
}

export function EnterMaintenance({ host, onClose }: { host: Host; onClose: () => void }) {
  const [shutDown, setShutDown] = useState(false);
  const maintenance = useMaintenance(host);
  const active =
    useVms().data?.filter(
      ({ status }) => status.host === host.meta.id && status.state !== "stopped" && status.state !== "failed",
    ).length ?? 0;
  return (
    <FormDialog
      title={`Put ${host.meta.name} in maintenance`}
      verb="Enter maintenance"
      busy={maintenance.isPending}
      error={maintenance.error}
      onSubmit={() => maintenance.mutate({ on: true, shut_down: shutDown }, { onSuccess: onClose })}
      onClose={onClose}
    >
      <p>
        No machine is placed or started on it any more, until the maintenance is ended.{" "}
        {active === 0
          ? "No machine runs on it now."
          : active === 1
            ? "The machine that runs on it is moved to another host while it runs."
            : `The ${active} machines that run on it are moved to other hosts while they run.`}
      </p>
      <Check checked={shutDown} onChange={(event) => setShutDown(event.target.checked)}>
        Shut down those that cannot be moved
      </Check>
    </FormDialog>
  );
}

/** What became of each machine. */
export function Evacuation({ host }: { host: Host }) {
  const names = useTargets();
  const task = evacuation(host, useTasks().data);
  if (!host.maintenance) return null;
  return (
    <Card title="Maintenance" {...(task ? { actions: <Cancel task={task} /> } : {})}>
      <p>No machine is placed or started on this host until the maintenance is ended.</p>
      {task && (
        <p className="mt-2">
          <TaskState task={task} />
        </p>
      )}
      {task && (task.results ?? []).length > 0 && (
        <div className="mt-3 overflow-x-auto" tabIndex={0} role="region" aria-label="Machines of this host">
          <table className="w-full min-w-120 text-left">
            <thead>
              <tr className="text-sm text-dim [&>th]:pb-1 [&>th]:font-medium">
                <th scope="col">Machine</th>
                <th scope="col">Result</th>
                <th scope="col">Why</th>
              </tr>
            </thead>
            <tbody>
              {task.results!.map((result) => (
                <tr key={result.target} className="border-t border-line/60 [&>*]:py-1 [&>*]:pr-4">
                  <th scope="row" className="font-normal">
                    <Target names={names} about={result} />
                  </th>
                  <td>
                    <State
                      state={result.done ? "succeeded" : "failed"}
                      word={result.done ? "done" : "stays"}
                    />
                  </td>
                  <td className="wrap-anywhere">{result.message}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
