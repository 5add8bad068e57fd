import { defineConfig } from "vitest/config";

const TIMES = "e2e/scale.e2e.ts";
const limits = { environment: "node", testTimeout: 120_000, hookTimeout: 180_000 } as const;

export default defineConfig({
  test: {
    projects: [
      // Each file has a daemon and a browser of its own, which wait for each other half the time: two at once fill two processors.
      {
        test: {
          ...limits,
          name: "pages",
          include: ["e2e/**/*.e2e.ts"],
          exclude: [TIMES],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      // Where times are measured nothing runs beside it.
      {
        test: {
          ...limits,
          name: "times",
          include: [TIMES],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
