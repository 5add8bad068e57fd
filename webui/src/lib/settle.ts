// Waiting for a task's end.
import { api, call, type Task } from "../api/client";

/** Ends when the task has; rejects with its message where it failed. */
export async function settle(task: Task): Promise<void> {
  let seen = task;
  for (let pause = 150; seen.state === "running"; pause = Math.min(pause * 1.5, 2000)) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    seen = await call(api.GET("/tasks/{id}", { params: { path: { id: task.id } } }));
  }
  if (seen.state !== "succeeded") throw new Error(seen.message ?? `It was ${seen.state}.`);
}
