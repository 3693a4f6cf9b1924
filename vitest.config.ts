import { defineConfig } from "vitest/config";

// Three kinds of test: pure ones beside the source; ones that make network namespaces (root, one file at a time); and
// ones that run the built programs (root, `npm run build` first).
export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["{src,scripts,bench}/**/*.test.ts"], exclude: ["src/**/*.kernel.test.ts"] } },
      {
        test: {
          name: "kernel",
          include: ["src/**/*.kernel.test.ts"],
          pool: "forks",
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "integration",
          include: ["test/{integration,skew}/**/*.test.ts"],
          pool: "forks",
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
