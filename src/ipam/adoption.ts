// SPDX-License-Identifier: Apache-2.0
//
// The mark in the record of what another IPAM plugin gave out and we took over.

/** One run of taking over, by which its attachments are known. */
export interface Adoption {
  /** Letters, digits and "-". */
  readonly id: string;
  /** Where the addresses were found, for people. */
  readonly source: string;
}

/** Longest ID and source, in characters. */
export const ADOPTION_ID_MAX = 64;
export const ADOPTION_SOURCE_MAX = 4095;

/** Whether this can be an adoption's ID. */
export function isAdoptionId(value: string): boolean {
  return value.length <= ADOPTION_ID_MAX && /^[a-zA-Z0-9-]+$/.test(value);
}

/** The mark as a record has it; undefined when it is none. */
export function readAdoption(value: unknown): Adoption | undefined {
  if (typeof value !== "object" || value === null || !("id" in value) || !("source" in value)) return undefined;
  const { id, source } = value;
  return typeof id === "string" && isAdoptionId(id) && typeof source === "string" ? { id, source } : undefined;
}
