// SPDX-License-Identifier: Apache-2.0
//
// Both ends of an attachment's link: what differs from its record, and the repair. Blocking, and each call is one turn of
// the event loop, so nothing else of the daemon ever runs in a pod's namespace.
import type { WishedRoute } from "../ipam/pod-end.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import { parseAddress } from "../net/address.ts";
import { netnsIdentity } from "../net/names.ts";
import { parsePrefix, prefixBytes } from "../net/prefix.ts";
import { sha256 } from "../net/sha256.ts";
import { BlockingNetlink } from "../netlink/blocking.ts";
import type { Request } from "../netlink/message.ts";
import { compare, compareHostEnd, type Difference } from "../podnet/differences.ts";
import { PodNetworkError } from "../podnet/errors.ts";
import { inNetns, OWN_NETNS, type PodNetns } from "../podnet/netns.ts";
import { observe, observeHostEnd } from "../podnet/observe.ts";
import { type PodNetworkPlan, planPodNetwork, type RouteWish } from "../podnet/plan.ts";
import { O_NONBLOCK, O_RDONLY, type Sys, SysError } from "../sys/sys.ts";

/** The kernel's errno when the link went meanwhile: there is nothing to be repaired any more. */
const GONE = "ENODEV";

export class PodEnds {
  readonly #sys: Sys;
  /** The node's own namespace, which is no pod's, whatever a record says. */
  readonly #own: string;

  /** @throws SysError */
  constructor(sys: Sys) {
    this.#sys = sys;
    const fd = sys.open(OWN_NETNS, O_RDONLY);
    this.#own = netnsIdentity(sys.fstat(fd));
    sys.close(fd);
  }

  /**
   * What differs from what the record's ADD made. Of the host's end alone where the pod's namespace can't be visited.
   * @throws NetlinkError, SysError when the kernel can't be read
   */
  look(record: AllocationRecord): Difference[] {
    const plan = planOf(record);
    return this.#visit(
      record,
      (netns) => compare(plan, observe(this.#sys, plan, netns)),
      () => compareHostEnd(plan, observeHostEnd(this.#sys, plan)),
    );
  }

  /**
   * Ends the differences, as far as they say how.
   * @returns what the kernel refuses, a sentence each; nothing of a link that has gone meanwhile
   */
  repair(record: AllocationRecord, differences: readonly Difference[]): string[] {
    const [host, pod] = (["host", "pod"] as const).map((end) =>
      differences.filter((difference) => difference.end === end).flatMap(({ repair }) => repair),
    ) as [Request[], Request[]];
    const sys = this.#sys;
    const refused = host.length === 0 ? [] : refusals(BlockingNetlink.open(sys), host);
    if (host.length > 0) globalThis.faultPoint?.("daemon.host-end-repaired");
    if (pod.length === 0) return refused;
    const inPod = this.#visit(
      record,
      ({ fd, path }) =>
        refusals(
          inNetns(sys, fd, path, () => BlockingNetlink.open(sys)),
          pod,
        ),
      () => [],
    );
    globalThis.faultPoint?.("daemon.pod-end-repaired");
    return [...refused, ...inPod];
  }

  /** Runs `visit` with the namespace that the record is about, or `otherwise` where it can't be had. */
  #visit<T>(record: AllocationRecord, visit: (netns: PodNetns) => T, otherwise: () => T): T {
    let fd: number;
    try {
      fd = this.#sys.open(record.netns, O_RDONLY | O_NONBLOCK);
    } catch (error) {
      if (error instanceof SysError) return otherwise();
      throw error;
    }
    try {
      const identity = netnsIdentity(this.#sys.fstat(fd));
      if (identity === this.#own || identity !== (record.podEnd?.netnsId ?? identity)) return otherwise();
      return visit({ fd, path: record.netns });
    } catch (error) {
      const closed = error instanceof SysError && error.syscall === "setns";
      if (closed || error instanceof PodNetworkError) return otherwise();
      throw error;
    } finally {
      this.#sys.close(fd);
    }
  }
}

/** Sends the requests, and closes the socket. */
function refusals(netlink: BlockingNetlink, requests: readonly Request[]): string[] {
  try {
    const { errors } = netlink.submit(requests);
    return errors.flatMap((error) => (error === undefined || error.errnoName === GONE ? [] : error.message));
  } finally {
    netlink.close();
  }
}

/** What ADD made, as far as it is repaired: sysctls and limits are not. */
function planOf(record: AllocationRecord): PodNetworkPlan {
  const { attachment, pod, addresses, podEnd, portMappings } = record;
  const routes = podEnd?.routes.map(toRouteWish) ?? [];
  // The MTU and the pod's MAC are what they are: plugins behind us may have changed them.
  const wishes = { mac: undefined, routes, sysctls: new Map<string, string>(), bandwidth: undefined, portMappings };
  const plan = planPodNetwork(attachment, pod, addresses.map(parseAddress), 0, wishes, sha256);
  return {
    ...plan,
    sysctls: [],
    // Of an older plugin nobody knows whether the configuration asked for another default route.
    routes: podEnd === undefined ? [] : plan.routes,
  };
}

function toRouteWish({ destination, mtu, advmss, priority, table, scope }: WishedRoute): RouteWish {
  const prefix = parsePrefix(destination);
  const { length } = prefix;
  return { destination: prefixBytes(prefix), length, gateway: undefined, mtu, advmss, priority, table, scope };
}
