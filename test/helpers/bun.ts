// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from "node:url";

/** The project's own Bun, for scripts that need system calls which Node doesn't have. */
export const BUN = fileURLToPath(
  new URL(
    `../../node_modules/@oven/bun-linux-${process.arch === "arm64" ? "aarch64" : "x64-baseline"}/bin/bun`,
    import.meta.url,
  ),
);
