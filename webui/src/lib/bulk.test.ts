import { expect, it } from "vitest";
import { each, type Result } from "./bulk";

const run = async (
  items: number[],
  work: (n: number) => Promise<unknown>,
  atOnce = 2,
  signal?: AbortSignal,
) => {
  const results: Result[] = items.map(() => ({ state: "waiting" }));
  await each(items, work, (index, result) => (results[index] = result), atOnce, signal);
  return results;
};

it("has a result for each, whatever happens to the others", async () => {
  const results = await run([1, 2, 3], (n) =>
    n === 2 ? Promise.reject(new Error("it is in use")) : Promise.resolve(),
  );
  expect(results).toEqual([{ state: "done" }, { state: "failed", why: "it is in use" }, { state: "done" }]);
});

it("does a few at a time", async () => {
  let now = 0;
  let most = 0;
  await run([...Array(20).keys()], async () => {
    most = Math.max(most, (now += 1));
    await new Promise((resolve) => setTimeout(resolve, 1));
    now -= 1;
  });
  expect(most).toBe(2);
});

it("begins nothing more once broken off", async () => {
  const stop = new AbortController();
  const results = await run([1, 2, 3], () => Promise.resolve(stop.abort()), 1, stop.signal);
  expect(results.map(({ state }) => state)).toEqual(["done", "waiting", "waiting"]);
});
