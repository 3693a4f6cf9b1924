// SPDX-License-Identifier: Apache-2.0
//
// Patches as the API server applies them, pure: RFC 7386, and strategic merges of the lists that flatnet could write so.

type Json = Record<string, unknown>;

/** Lists that a strategic merge patch merges, and by which field (patchMergeKey in k8s.io/api/core/v1/types.go). */
const MERGE_KEYS: Readonly<Record<string, string>> = { conditions: "type", taints: "key", addresses: "type" };

/** @returns the object with the patch applied. @throws what says why it can't be */
export function applyPatch(object: unknown, patch: unknown, contentType: string): unknown {
  if (contentType.startsWith("application/merge-patch+json")) return merge(object, patch, false);
  if (contentType.startsWith("application/strategic-merge-patch+json")) return merge(object, patch, true);
  throw new Error(`the media type ${contentType} is not supported`);
}

function merge(target: unknown, patch: unknown, strategic: boolean): unknown {
  if (!isObject(patch)) return patch;
  const merged: Json = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    const key = strategic && Array.isArray(value) ? MERGE_KEYS[name] : undefined;
    if (value === null) delete merged[name];
    else if (key !== undefined) merged[name] = mergeList((merged[name] ?? []) as Json[], value as Json[], key);
    else merged[name] = merge(merged[name], value, strategic);
  }
  return merged;
}

function mergeList(target: readonly Json[], patch: readonly Json[], key: string): Json[] {
  const merged = [...target];
  for (const { $patch, ...element } of patch) {
    const at = merged.findIndex((other) => other[key] === element[key]);
    if ($patch === "delete") merged.splice(at, at < 0 ? 0 : 1);
    else if (at < 0) merged.push(element);
    else merged[at] = merge(merged[at], element, true) as Json;
  }
  return merged;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
