import { beforeAll, expect, it, vi } from "vitest";

let client: typeof import("./client");
beforeAll(async () => {
  vi.stubGlobal("location", { origin: "https://host" });
  client = await import("./client");
});

it("keeps the host's own words", () => {
  const said = { type: "/problems/validation", title: "The request has faults", status: 422, detail: "why" };
  expect(client.problem(422, said)).toBe(said);
});

it("finds words where the host gives none", () => {
  expect(client.problem(502, "<html>").detail).toContain("502");
  expect(client.problem(0, undefined).detail).toContain("does not answer");
});

it("turns refusals and broken connections into errors", async () => {
  const refused = {
    error: { title: "t", detail: "d", status: 409, type: "x" },
    response: new Response(null, { status: 409 }),
  };
  await expect(client.call(Promise.resolve(refused))).rejects.toMatchObject({ message: "d" });
  await expect(client.call(Promise.reject(new TypeError("failed to fetch")))).rejects.toMatchObject({
    away: true,
  });
});

it("says which field was refused", () => {
  const error = new client.ApiError({
    ...client.problem(422, null),
    errors: [{ field: "spec.vcpus", reason: "0 is not between 1 and 64" }],
  });
  expect(error.field("name", "spec.vcpus")).toContain("between");
  expect(error.field("name")).toBeUndefined();
});

it("reads a list to its end", async () => {
  const pages = [
    { items: [1, 2], next_cursor: "a" },
    { items: [3], next_cursor: null },
  ];
  const seen: (string | undefined)[] = [];
  const items = await client.all(async ({ cursor }) => {
    seen.push(cursor);
    return { data: pages[seen.length - 1]!, response: new Response() };
  });
  expect(items).toEqual([1, 2, 3]);
  expect(seen).toEqual([undefined, "a"]);
});

it("asks more slowly when the host wants that, but not for a log-in", async () => {
  vi.useFakeTimers();
  let asked = 0;
  const busy = () =>
    new Response("{}", { status: 429, headers: { "Retry-After": "2", "Content-Type": "application/json" } });
  vi.stubGlobal("fetch", async () => {
    asked += 1;
    return asked < 3 ? busy() : new Response("{}", { headers: { "Content-Type": "application/json" } });
  });
  const done = client.api.GET("/cluster");
  await vi.advanceTimersByTimeAsync(1900);
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(5000);
  expect((await done).response.status).toBe(200);
  expect(asked).toBe(3);
  asked = 0;
  const logIn = await client.api.POST("/session", { body: { username: "eve", password: "x" } });
  expect([logIn.response.status, asked]).toEqual([429, 1]);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
