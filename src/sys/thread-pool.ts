// SPDX-License-Identifier: Apache-2.0
//
// The threads that libuv has for what the event loop mustn't wait for: the database, files, and what the kernel takes long for.

/** How many may be with the kernel, each for 10 to 30 ms: so many deletions of links at once (decision 22). */
export const THREADS_WITH_THE_KERNEL = 6;

/** What libuv has by itself, for all else. */
const OTHERS = 4;

/** Asks for them. To be called before the first of them is used, which makes all; a number in the environment counts more. */
export function sizeThreadPool(environment: Record<string, string | undefined>): void {
  environment["UV_THREADPOOL_SIZE"] ??= `${OTHERS + THREADS_WITH_THE_KERNEL}`;
}
