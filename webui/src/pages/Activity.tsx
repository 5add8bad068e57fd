// What was ordered and what happened: tasks and events, each a list of its own.
import { Activity as Pulse, Bell } from "lucide-react";
import { useMemo } from "react";
import type { Event, Task } from "../api/client";
import { useEvents, useTasks } from "../api/queries";
import { Head } from "../components/Page";
import { Target, targetName, useTargets } from "../components/Target";
import { ListView } from "../components/list/ListView";
import type { Column } from "../components/list/useList";
import { Words } from "../components/Words";
import { Cancel, TaskState } from "../components/shell/TaskPane";
import { State } from "../components/ui";
import { duration, taskName, time } from "../lib/format";

const taskId = (task: Task) => task.id;
const eventId = (event: Event) => event.id;

export function Tasks() {
  const tasks = useTasks();
  const names = useTargets();
  const columns = useMemo(
    (): Column<Task>[] => [
      { id: "task", label: "Task", value: ({ kind }) => taskName(kind) },
      {
        id: "target",
        label: "Target",
        value: (about) => targetName(names, about),
        cell: (about) => <Target names={names} about={about} />,
        width: "w-[20%]",
      },
      {
        id: "state",
        label: "Status",
        value: ({ state, message }) => `${state} ${message ?? ""}`,
        cell: (task) =>
          task.message ? (
            <Words
              text={task.message}
              title={`${taskName(task.kind)}: ${task.state}`}
              facts={[
                ["Target", <Target names={names} about={task} />],
                ["By", task.actor],
                ["Started", time(task.created_at)],
                ["Ended", task.ended_at ? time(task.ended_at) : undefined],
              ]}
            >
              <TaskState task={task} />
            </Words>
          ) : (
            <TaskState task={task} />
          ),
        width: "w-[24%]",
        narrow: true,
      },
      { id: "by", label: "By", value: ({ actor }) => actor, width: "w-28" },
      {
        id: "started",
        label: "Started",
        value: ({ created_at }) => Date.parse(created_at),
        cell: ({ created_at }) => time(created_at),
        width: "w-46",
      },
      {
        id: "took",
        label: "Took",
        value: ({ created_at, ended_at }) =>
          ended_at ? Date.parse(ended_at) - Date.parse(created_at) : undefined,
        cell: ({ created_at, ended_at }) => duration(created_at, ended_at),
        width: "w-26",
      },
    ],
    [names],
  );
  return (
    <>
      <Head title="Tasks" icon={Pulse} />
      <ListView
        nouns="tasks"
        icon={Pulse}
        query={tasks}
        columns={columns}
        id={taskId}
        name={({ kind }) => taskName(kind)}
        order="-started"
        brief={(task) => `${targetName(names, task)} · ${time(task.created_at)}`}
        actions={(task) => <Cancel task={task} />}
        actionsWidth="w-24"
        empty={<p>Whatever takes time is a task and appears here.</p>}
      />
    </>
  );
}

export function Events() {
  const events = useEvents();
  const names = useTargets();
  const columns = useMemo(
    (): Column<Event>[] => [
      {
        id: "message",
        label: "Event",
        value: ({ message }) => message,
        cell: (event) => (
          <Words
            text={event.message}
            title={`${event.level}: ${event.kind}`}
            facts={[
              ["About", <Target names={names} about={event} />],
              ["By", event.actor],
              ["When", time(event.at)],
            ]}
          />
        ),
      },
      {
        id: "level",
        label: "Level",
        value: ({ level }) => level,
        cell: ({ level }) => <State state={level} />,
        width: "w-28",
        narrow: true,
      },
      {
        id: "target",
        label: "About",
        value: (about) => targetName(names, about),
        cell: (about) => <Target names={names} about={about} />,
        width: "w-[16%]",
      },
      { id: "kind", label: "Kind", value: ({ kind }) => kind, width: "w-36" },
      { id: "by", label: "By", value: ({ actor }) => actor ?? undefined, width: "w-28" },
      {
        id: "at",
        label: "When",
        value: ({ at }) => Date.parse(at),
        cell: ({ at }) => time(at),
        width: "w-46",
      },
    ],
    [names],
  );
  return (
    <>
      <Head title="Events" icon={Bell} />
      <ListView
        nouns="events"
        icon={Bell}
        query={events}
        columns={columns}
        id={eventId}
        name={({ message }) => message}
        order="-at"
        brief={(event) => `${time(event.at)} · ${targetName(names, event)}`}
        empty={<p>What happens to hosts and machines is told here.</p>}
      />
    </>
  );
}
