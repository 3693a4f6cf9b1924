// SPDX-License-Identifier: Apache-2.0
//
// Fields of JSON that anybody may have written. What is not of the kind that is asked for is as if it weren't there: the
// API server has checked objects against their schema, and a daemon doesn't end for one that slipped through.
import type { Words } from "./objects.ts";

export type Raw = Readonly<Record<string, unknown>>;

const NOTHING: Raw = {};

/** An object's fields; none of anything else. */
export function fieldsOf(value: unknown): Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Raw) : NOTHING;
}

/** The elements of an array; none of anything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Empty where it is no text. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Labels or annotations, those whose keys are wanted. */
export function wordsOf(value: unknown, wanted: (key: string) => boolean = () => true): Words {
  const entries = Object.entries(fieldsOf(value)).filter(([key, word]) => typeof word === "string" && wanted(key));
  return Object.fromEntries(entries) as Words;
}
