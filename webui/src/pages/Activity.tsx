// What is being done and what happened.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, call, type Task } from "../api/client";
import { useEvents, useTasks } from "../api/queries";
import { Button, Failure, Loading, State } from "../components/ui";
import { age, time } from "../lib/format";

export function Activity() {
  const tasks = useTasks();
  const events = useEvents();
  const client = useQueryClient();
  const cancel = useMutation({
    mutationFn: (task: Task) =>
      call(api.POST("/api/v1/tasks/{id}/cancel", { params: { path: { id: task.id } } })),
    onSettled: () => client.invalidateQueries({ queryKey: ["tasks"] }),
  });
  // Newest first; ids are ordered by time.
  const newest = [...(tasks.data ?? [])].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 50);
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
                  {task.kind}
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
            <time dateTime={event.at}>{time(event.at)}</time>
            <span>
              {event.level !== "info" && <strong>{event.level}: </strong>}
              {event.message}
              {event.actor && <span className="dim"> by {event.actor}</span>}
            </span>
          </li>
        ))}
      </ol>
    </>
  );
}
