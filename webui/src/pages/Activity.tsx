// What is being done and what happened.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, call, type Task, type Vm } from "../api/client";
import { useEvents, useTasks, useVms } from "../api/queries";
import { Button, Failure, Loading, State } from "../components/ui";
import { age, time } from "../lib/format";
import { href } from "../lib/router";

export function Activity() {
  const tasks = useTasks();
  const events = useEvents();
  const client = useQueryClient();
  const cancel = useMutation({
    mutationFn: (task: Task) => call(api.POST("/tasks/{id}/cancel", { params: { path: { id: task.id } } })),
    onSettled: () => client.invalidateQueries({ queryKey: ["tasks"] }),
  });
  const newest = tasks.data ?? [];
  const vms = useVms();
  const vm = (target: string) => vms.data?.find(({ meta }) => target === `vm/${meta.id}`);
  return (
    <>
      <div className="heading">
        <h1>Activity</h1>
      </div>
      <h2>Tasks</h2>
      <Failure error={tasks.error ?? cancel.error} />
      {tasks.isPending && <Loading />}
      {tasks.data?.length === 0 && <p className="dim">Nothing has been ordered yet.</p>}
      {newest.length > 0 && (
        <table role="table">
          <thead>
            <tr>
              <th scope="col">Task</th>
              <th scope="col">State</th>
              <th scope="col">By</th>
              <th scope="col">Age</th>
              <th scope="col">
                <span className="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {newest.map((task) => (
              <tr key={task.id}>
                <th scope="row" data-label="Task">
                  {task.kind} <Target vm={vm(task.target)} />
                </th>
                <td data-label="State">
                  <span>
                    <State state={task.state} />
                    {task.message && <span className="reason">{task.message}</span>}
                  </span>
                </td>
                <td data-label="By">{task.actor}</td>
                <td data-label="Age">{age(task.created_at)}</td>
                <td className="actions">
                  {task.state === "running" && (
                    <Button disabled={cancel.isPending} onClick={() => cancel.mutate(task)}>
                      Cancel
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <h2>Events</h2>
      <Failure error={events.error} />
      {events.isPending && <Loading />}
      {events.data?.length === 0 && <p className="dim">Nothing has happened yet.</p>}
      <ol className="events">
        {events.data?.map((event) => (
          <li key={event.id} className={event.level}>
            <time dateTime={event.at} title={event.at}>
              {time(event.at)}
            </time>
            <span>
              {event.level !== "info" && <strong>{event.level}: </strong>}
              <Target vm={vm(event.target)} /> {event.message}
              {event.actor && <span className="dim"> by {event.actor}</span>}
            </span>
          </li>
        ))}
      </ol>
    </>
  );
}

/** The machine something was done to, while it exists. */
function Target({ vm }: { vm: Vm | undefined }) {
  return vm && <a href={href({ page: "vm", id: vm.meta.id })}>{vm.meta.name}</a>;
}
