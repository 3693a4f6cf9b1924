// SPDX-License-Identifier: Apache-2.0
//
// What lists and watches are asked with, and which refusals are for the version that was asked for (Kubernetes documentation,
// "Resource versions"). Pure.
import { KubeError } from "./errors.ts";

/**
 * A version and a limit together would mean exactly that version (documentation of `resourceVersion`), which is soon
 * forgotten; but "0" and a limit mean any, whole or in pages as the API server likes. Further pages are of the first one's version.
 */
export function listQuery(
  version: string,
  limit: number | undefined,
  next: string | undefined,
): Record<string, string | undefined> {
  if (next !== undefined) return { limit: limit?.toString(), continue: next };
  if (version === "") return { limit: limit?.toString() };
  if (version === "0") return { limit: limit?.toString(), resourceVersion: "0" };
  return { resourceVersion: version, resourceVersionMatch: "NotOlderThan" };
}

export function watchQuery(version: string | undefined, seconds: number): Record<string, string | undefined> {
  return { watch: "1", allowWatchBookmarks: "true", resourceVersion: version, timeoutSeconds: `${seconds}` };
}

/**
 * Whether the API server can't list from the version: forgotten (410), no version of its own (400), or from a future that
 * it doesn't know (504 with the cause ResourceVersionTooLarge, by its message).
 */
export function isVersionError(error: unknown): boolean {
  if (!(error instanceof KubeError)) return false;
  return error.code === "KUBE_GONE" || error.status === 400 || /too large resource version/i.test(error.message);
}
