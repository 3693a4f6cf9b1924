// SPDX-License-Identifier: Apache-2.0
//
// Who held which address when, as a table and as JSON. Pure.
import type { Tenure } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatTime } from "./times.ts";
import { fitTable, shortId } from "./words.ts";

/** A line for each tenure, in the order they come in. @param width see fitTable */
export function tenuresTable(tenures: readonly Tenure[], width?: number): string[] {
  const rows = tenures.map(({ address, attachment, pod, allocatedAtMs, releasedAtMs, cause }) => {
    const gateway = attachment?.ifname === "";
    const name = gateway
      ? `gateway of ${attachment.network}`
      : pod === undefined
        ? "-"
        : `${pod.namespace}/${pod.name}`;
    const container = gateway ? "-" : shortId(attachment?.containerId ?? "");
    const until = releasedAtMs === 0n ? "now" : formatTime(Number(releasedAtMs));
    return [address, formatTime(Number(allocatedAtMs)), until, cause, name, container];
  });
  return rows.length === 0 ? [] : fitTable([["ADDRESS", "FROM", "UNTIL", "BY", "POD", "CONTAINER"], ...rows], 4, width);
}

/** A tenure for programs; times in ISO 8601, `releasedAt` null while it goes on. */
export function tenureDocument({ address, attachment, pod, allocatedAtMs, releasedAtMs, cause }: Tenure): object {
  const time = (ms: bigint) => new Date(Number(ms)).toISOString();
  return {
    address,
    ...attachment,
    pod: pod ?? null,
    allocatedAt: time(allocatedAtMs),
    releasedAt: releasedAtMs === 0n ? null : time(releasedAtMs),
    cause,
  };
}
