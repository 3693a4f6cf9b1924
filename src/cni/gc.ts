// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../gen/flatnet/ipam/v1/ipam.ts";
import { BlockingNetlink } from "../netlink/blocking.ts";
import { deleteLink } from "../netlink/link.ts";
import type { NetlinkError } from "../netlink/message.ts";
import type { Sys } from "../sys/sys.ts";
import { removeRulesAt } from "./apply.ts";
import type { GcConf } from "./conf.ts";
import { CNI_CODES, type CniCode, CniError, toCniError } from "./errors.ts";
import { IpamClient } from "./ipam-client.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/** How many links are deleted in one request batch. */
const BATCH = 64;

/**
 * GC: what the network's attachments still have, beside those that the runtime knows, is taken away: links first, then
 * addresses. One that fails doesn't stop the others (CNI spec, section 3, "Garbage-collecting a network").
 * @throws CniError 100 naming everything that failed, 11 when all of it may succeed later
 */
export function collectGarbage(world: World, conf: GcConf): Outcome {
  const daemon = new IpamClient(world, conf);
  const stale = daemon.list().filter((allocation) => isStale(allocation, conf));
  globalThis.faultPoint?.("plugin.garbage-listed");
  const failures: Failure[] = [];
  const errors = deleteLinks(world.sys, stale);
  globalThis.faultPoint?.("plugin.garbage-unlinked");
  const unlinked = stale.filter((allocation, i) => {
    const error = errors[i];
    if (error !== undefined) failures.push(failureOf(allocation, error));
    return error === undefined;
  });
  for (const allocation of unlinked) {
    try {
      if (allocation.hostIfname !== "") removeRulesAt(world.sys, allocation.hostIfname, allocation.netns);
      if (allocation.attachment !== undefined) daemon.release(allocation.attachment, 0, "gc");
      globalThis.faultPoint?.("plugin.garbage-released");
    } catch (error) {
      failures.push(failureOf(allocation, error));
    }
  }
  if (failures.length > 0) {
    const passes = failures.every(({ code }) => code === CNI_CODES.tryAgainLater);
    throw new CniError(
      passes ? CNI_CODES.tryAgainLater : CNI_CODES.kernelRefused,
      `${failures.length} of ${stale.length} attachments could not be removed`,
      failures.map(({ text }) => text).join("; "),
    );
  }
  return succeed();
}

/** What could not be taken away, and the code that it would be by itself. */
interface Failure {
  readonly text: string;
  readonly code: CniCode;
}

function failureOf(allocation: Allocation, error: unknown): Failure {
  return { text: `${describe(allocation)}: ${(error as Error).message}`, code: toCniError(error).code };
}

/** Of this network, and unknown to the runtime. The network's gateway has no interface name and belongs to nobody. */
function isStale({ attachment }: Allocation, conf: GcConf): boolean {
  if (attachment === undefined || attachment.network !== conf.name || attachment.ifname === "") return false;
  return !conf.validAttachments.has(`${attachment.containerId}/${attachment.ifname}`);
}

/** Deletes the host ends, as many as go in one batch at once; the position says what went wrong with which. */
function deleteLinks(sys: Sys, stale: readonly Allocation[]): (NetlinkError | undefined)[] {
  const errors = new Array<NetlinkError | undefined>(stale.length);
  const linked = [...stale.keys()].filter((i) => stale[i]?.hostIfname !== "");
  if (linked.length === 0) return errors;
  const netlink = BlockingNetlink.open(sys);
  try {
    for (let at = 0; at < linked.length; at += BATCH) {
      const batch = linked.slice(at, at + BATCH);
      const result = netlink.submit(batch.map((i) => deleteLink((stale[i] as Allocation).hostIfname)));
      for (const [j, i] of batch.entries()) {
        const error = result.errors[j];
        if (error !== undefined && error.errnoName !== "ENODEV") errors[i] = error;
      }
    }
  } finally {
    netlink.close();
  }
  return errors;
}

function describe({ attachment, addresses }: Allocation): string {
  return `${attachment?.containerId ?? ""}/${attachment?.ifname ?? ""} (${addresses.join(", ")})`;
}
