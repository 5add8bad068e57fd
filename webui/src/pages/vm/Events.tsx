// What was done to a machine, and what happened to it.
import { useTasks } from "../../api/queries";
import { Cancel, TaskState } from "../../components/shell/TaskPane";
import { EventList } from "../../components/EventList";
import { Card, Failure } from "../../components/ui";
import { duration, taskName, time } from "../../lib/format";
import { useVmId } from "./Layout";

export function VmEvents() {
  const target = `vm/${useVmId()}`;
  const tasks = useTasks();
  const ours = tasks.data?.filter((task) => task.target === target) ?? [];
  return (
    <>
      <Card title="Tasks">
        <Failure error={tasks.error} />
        {ours.length === 0 ? (
          <p className="text-dim">None among the newest.</p>
        ) : (
          <ol className="flex flex-col gap-1.5">
            {ours.map((task) => (
              <li key={task.id} className="flex flex-wrap items-center gap-x-4 gap-y-1 wrap-anywhere">
                <time dateTime={task.created_at} className="w-44 flex-none text-dim tabular-nums">
                  {time(task.created_at)}
                </time>
                <span className="w-48 flex-none">{taskName(task.kind)}</span>
                <span className="min-w-40">
                  <TaskState task={task} />
                </span>
                <span className="text-dim">
                  by {task.actor}, {duration(task.created_at, task.ended_at)}
                </span>
                <Cancel task={task} />
              </li>
            ))}
          </ol>
        )}
      </Card>
      <Card title="Events">
        <EventList target={target} limit={200} />
      </Card>
    </>
  );
}
