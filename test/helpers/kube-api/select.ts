// SPDX-License-Identifier: Apache-2.0
import type { ApiObject } from "./admin.ts";

/** fieldSelector and labelSelector of a request, as far as "=" and mere keys go. */
export function selectorOf(query: URLSearchParams): (object: ApiObject | undefined) => boolean {
  const fields = terms(query.get("fieldSelector"));
  const labels = terms(query.get("labelSelector"));
  return (object) =>
    object !== undefined &&
    fields.every(([path, value]) => (at(object, path) ?? "") === value) &&
    labels.every(([key, value]) =>
      value === undefined ? key in (object.metadata.labels ?? {}) : object.metadata.labels?.[key] === value,
    );
}

function terms(text: string | null): [key: string, value: string | undefined][] {
  if (text === null || text === "") return [];
  return text.split(",").map((term) => {
    const [key = "", value] = term.split(/==?/);
    return [key, value];
  });
}

function at(object: unknown, path: string): unknown {
  return path.split(".").reduce((value, key) => (value as Record<string, unknown> | undefined)?.[key], object);
}
