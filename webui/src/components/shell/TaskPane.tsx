// What is being done, at the foot of every page: everybody's newest tasks with progress and cancel.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ChevronDown, ChevronUp } from "lucide-react";
import { api, call, type Task } from "../../api/client";
import { useHosts, useImages, useNetworks, usePools, useTasks, useVms, useVolumes } from "../../api/queries";
import { useClusterRefusal, useRefusal } from "../../api/rights";
import { duration, taskName, time } from "../../lib/format";
import { useNarrow } from "../../lib/media";
import { moveWords } from "../../lib/moves";
import { useFlag } from "../../lib/prefs";
import { toCancel } from "../../lib/rights";
import { Target, useTargets } from "../Target";
import { Button, State, cx } from "../ui";
import { useFollow } from "./Orders";

const SHOWN = 30;

export function TaskPane() {
  const { data: tasks } = useTasks();
  const [open, setOpen] = useFlag("task-pane", !useNarrow());
  const names = useTargets();
  const running = tasks?.filter(({ state }) => state === "running").length ?? 0;
  const last = tasks?.[0];
  return (
    <section aria-label="Recent tasks" className="flex-none border-t border-line bg-surface">
      <button
        type="button"
        aria-expanded={open}
        className="flex h-9 min-h-0! w-full items-center gap-3 px-4 text-left hover:bg-sunken"
        onClick={() => setOpen(!open)}
      >
        {open ? <ChevronDown size={16} aria-hidden /> : <ChevronUp size={16} aria-hidden />}
        <span className="flex-none font-medium">Recent tasks</span>
        {running > 0 && (
          <span className="rounded-full bg-accent px-2 text-sm font-medium text-on-accent">
            {running} running
          </span>
        )}
        {!open && last && (
          <span className="truncate text-dim">
            {taskName(last.kind)}: {last.state}
          </span>
        )}
      </button>
      {open && (
        <div
          className="h-40 overflow-auto border-t border-line"
          tabIndex={0}
          role="region"
          aria-label="Recent tasks, scrollable"
        >
          {tasks?.length === 0 && <p className="p-4 text-dim">Nothing has been ordered yet.</p>}
          {tasks && tasks.length > 0 && (
            <table className="w-full table-fixed">
              <colgroup>
                <col className="w-[30%] lg:w-[19%]" />
                <col className="w-[26%] lg:w-[15%]" />
                <col />
                <col className="hidden w-40 md:table-column" />
                <col className="hidden w-49 lg:table-column" />
                <col className="hidden w-24 lg:table-column" />
                <col className="w-22" />
              </colgroup>
              <thead className="sticky top-0 bg-surface">
                <tr className="h-7 text-left text-sm text-dim [&>th]:px-3 [&>th]:font-medium">
                  <th scope="col">Task</th>
                  <th scope="col">Target</th>
                  <th scope="col">Status</th>
                  <th scope="col" className="hidden md:table-cell">
                    By
                  </th>
                  <th scope="col" className="hidden lg:table-cell">
                    Started
                  </th>
                  <th scope="col" className="hidden lg:table-cell">
                    Took
                  </th>
                  <th scope="col">
                    <span className="sr-only">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {tasks.slice(0, SHOWN).map((task) => (
                  <tr key={task.id} className="h-8 border-t border-line/60 [&>*]:truncate [&>*]:px-3">
                    <th scope="row" className="text-left font-normal">
                      {taskName(task.kind)}
                    </th>
                    <td>
                      <Target names={names} about={task} />
                    </td>
                    <td title={task.message ?? undefined}>
                      <TaskState task={task} />
                    </td>
                    <td className="hidden md:table-cell">{task.actor}</td>
                    <td className="hidden text-dim lg:table-cell">{time(task.created_at)}</td>
                    <td className="hidden text-dim tabular-nums lg:table-cell">
                      {duration(task.created_at, task.ended_at)}
                    </td>
                    <td className="text-right">
                      <Cancel task={task} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          {tasks && tasks.length > SHOWN && (
            <p className="border-t border-line p-2 text-center">
              <Link className="link" to="/tasks">
                All tasks
              </Link>
            </p>
          )}
        </div>
      )}
    </section>
  );
}

/** Where a task is, how far, and why it failed. */
export function TaskState({ task }: { task: Task }) {
  if (task.state === "running")
    return (
      <span className="flex items-center gap-3">
        <progress
          className={cx("max-w-32 min-w-12", task.progress == null && "animate-pulse-slow")}
          {...(typeof task.progress === "number" ? { value: task.progress } : {})}
          aria-label={`${taskName(task.kind)}: progress`}
        />
        <span className="truncate text-dim">
          {typeof task.progress === "number"
            ? [`${Math.round(task.progress * 100)} %`, moveWords(task)].filter(Boolean).join(", ")
            : (task.message ?? "running")}
        </span>
      </span>
    );
  return (
    <>
      <State state={task.state} />
      {task.message && (
        <span className={task.state === "failed" ? "text-bad" : "text-dim"}> — {task.message}</span>
      )}
    </>
  );
}

/** Why this person may not end the task early. */
function useCancelRefusal({ target }: Task): string | undefined {
  const objects = {
    vm: useVms().data,
    host: useHosts().data,
    image: useImages().data,
    volume: useVolumes().data,
    network: useNetworks().data,
    pool: usePools().data,
  };
  const denied = useRefusal();
  const deniedAll = useClusterRefusal();
  const { permission, on } = toCancel(target);
  if (!on) return deniedAll(permission);
  const object = (
    objects[on.kind] as { meta: { id: string; labels?: Record<string, string> } }[] | undefined
  )?.find(({ meta }) => meta.id === on.id);
  return denied(permission, { ...on, labels: object?.meta.labels });
}

export function Cancel({ task }: { task: Task }) {
  return task.state === "running" ? <CancelRunning task={task} /> : null;
}

function CancelRunning({ task }: { task: Task }) {
  const refusal = useCancelRefusal(task);
  const client = useQueryClient();
  const follow = useFollow();
  const cancel = useMutation({
    mutationFn: () => call(api.POST("/tasks/{id}/cancel", { params: { path: { id: task.id } } })),
    onError: (error) => follow(`Cancel: ${taskName(task.kind)}`, error),
    onSettled: () => client.invalidateQueries({ queryKey: ["tasks"] }),
  });
  return (
    <Button
      small
      kind="quiet"
      refusal={refusal}
      busy={cancel.isPending}
      aria-label={`Cancel: ${taskName(task.kind)}`}
      onClick={() => cancel.mutate()}
    >
      Cancel
    </Button>
  );
}
