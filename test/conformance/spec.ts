// SPDX-License-Identifier: Apache-2.0
//
// The versions of the CNI spec that rules are written for.

export const SPEC_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

export type SpecVersion = (typeof SPEC_VERSIONS)[number];

export function isSpecVersion(text: unknown): text is SpecVersion {
  return SPEC_VERSIONS.some((version) => version === text);
}

/** Whether `version` is `floor` or newer. */
export function isAtLeast(version: SpecVersion, floor: SpecVersion): boolean {
  return SPEC_VERSIONS.indexOf(version) >= SPEC_VERSIONS.indexOf(floor);
}
