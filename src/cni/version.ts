// SPDX-License-Identifier: Apache-2.0
//
// The versions of the CNI spec that the plugin speaks, oldest first.
import { CNI_CODES, CniError } from "./errors.ts";

export const SUPPORTED_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];

/** @throws CniError 1 naming the version and those that would do. */
export function assertSupported(version: string): CniVersion {
  for (const supported of SUPPORTED_VERSIONS) if (supported === version) return supported;
  throw new CniError(
    CNI_CODES.incompatibleVersion,
    "incompatible CNI version",
    `cniVersion ${JSON.stringify(version)} is not one of ${SUPPORTED_VERSIONS.join(", ")}`,
  );
}

/** Whether a version is the other one or a later one. */
export function atLeast(version: CniVersion, least: CniVersion): boolean {
  return SUPPORTED_VERSIONS.indexOf(version) >= SUPPORTED_VERSIONS.indexOf(least);
}

/** CHECK came with 0.4.0, GC and STATUS with 1.1.0. @throws CniError 1 when the configuration is of before */
export function assertVerbAllowed(verb: string, version: CniVersion, since: CniVersion): void {
  if (atLeast(version, since)) return;
  const details = `config version ${version} does not allow ${verb}, which came with ${since}`;
  throw new CniError(CNI_CODES.incompatibleVersion, "incompatible CNI version", details);
}

/** The answer to VERSION (CNI spec, section 5): the caller's version and all that are supported. */
export function versionDocument(cniVersion: string): string {
  return JSON.stringify({ cniVersion, supportedVersions: SUPPORTED_VERSIONS });
}
