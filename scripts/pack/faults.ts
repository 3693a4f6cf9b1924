// SPDX-License-Identifier: Apache-2.0

/** "faults" is what the torture test runs: it can be told to end by SIGKILL at a named step (src/net/fault.ts). */
export type Variant = "release" | "faults";

/** What a step calls to be told of. In the release build it does not exist, and every call is taken out. */
export const FAULT_POINT = "globalThis.faultPoint";
