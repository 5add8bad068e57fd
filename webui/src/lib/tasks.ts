// Tasks as the host lists and tells them: newest first, and the newest only. They have no revision to tell which of two states is
// the later one, but one that has ended does not run again.
import type { Task } from "../api/client";
import type { Changes } from "./merge";

const ended = ({ state }: Task) => state !== "running";
/** Ids begin with the time they were made at. */
const newestFirst = (a: Task, b: Task) => (a.id < b.id ? 1 : a.id > b.id ? -1 : 0);

/** The later of two states of a task. */
export const later = (known: Task | undefined, fresh: Task): Task =>
  known && ended(known) && !ended(fresh) ? known : fresh;

/** The list with what was told in it, `most` of them; `undefined` is told of a task that is not to be seen any more. */
export function withTold(list: readonly Task[], told: Changes<Task>, most: number): Task[] {
  const left = new Map(told);
  const tasks = list.flatMap((known) => {
    if (!left.has(known.id)) return [known];
    const fresh = left.get(known.id);
    left.delete(known.id);
    return fresh ? [later(known, fresh)] : [];
  });
  for (const fresh of left.values()) if (fresh) tasks.push(fresh);
  return tasks.sort(newestFirst).slice(0, most);
}

/** The list read anew. What was told while it was read is kept: ends, and tasks that are newer than it. */
export function readAnew(list: readonly Task[] | undefined, fresh: Task[], most: number): Task[] {
  const known = new Map(list?.map((task) => [task.id, task]));
  const read = fresh.map((task) => later(known.get(task.id), task));
  const newest = fresh[0];
  const newer = list?.filter((task) => newest && newestFirst(task, newest) < 0) ?? [];
  return [...newer, ...read].slice(0, most);
}
