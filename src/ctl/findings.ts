// SPDX-License-Identifier: Apache-2.0
//
// In what the daemon's records and the kernel differ, in words and as JSON. Pure.
import type { CheckConsistencyResponse } from "../gen/flatnet/ipam/v1/ipam.ts";
import { plural } from "./words.ts";

/** A line for each finding and one for what was compared. */
export function findingLines({ findings, attachments, links }: CheckConsistencyResponse): string[] {
  const compared = `${plural(attachments, "attachment", "attachments")} and ${plural(links, "host link", "host links")}`;
  if (findings.length === 0) return [`${compared} agree.`];
  const width = Math.max(...findings.map(({ kind }) => kind.length));
  return [
    ...findings.map(({ kind, message }) => `${kind.padEnd(width)}  ${message}`),
    "",
    `${plural(findings.length, "difference", "differences")} between ${compared}.`,
  ];
}

/** The same for programs; what a finding isn't about is null. */
export function findingsDocument({ findings, attachments, links }: CheckConsistencyResponse): object {
  return {
    version: 1,
    attachments,
    links,
    findings: findings.map(({ kind, attachment, hostIfname, address, message }) => ({
      kind,
      attachment: attachment ?? null,
      hostIfname: hostIfname === "" ? null : hostIfname,
      address: address === "" ? null : address,
      message,
    })),
  };
}
