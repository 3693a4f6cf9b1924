// SPDX-License-Identifier: Apache-2.0
import type { StatusResponse, Subnet } from "../gen/flatnet/ipam/v1/ipam.ts";
import { RpcError } from "../grpc/client.ts";
import type { DaemonConf, IpamConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { IpamClient } from "./ipam-client.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/** The daemon's name for what no other pool has. */
const DEFAULT_POOL = "default";

type Answer = Pick<StatusResponse, "routesSynced" | "subnets">;
type Counts = Pick<Subnet, "capacity" | "used" | "cooling" | "free">;
const NOTHING: Counts = { capacity: 0, used: 0, cooling: 0, free: 0 };

/**
 * STATUS: whether ADD would work now. One round trip, because runtimes ask every few seconds.
 * @throws CniError 50 when the daemon can't be asked or a family has no address left, 51 when the routes to the other
 * nodes have never been in order
 */
export function status(world: World, conf: DaemonConf & Pick<IpamConf, "pool">): Outcome {
  let answer: StatusResponse;
  try {
    answer = new IpamClient(world, conf).status();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw new CniError(CNI_CODES.notAvailable, "the plugin is not available", error.message, error);
  }
  assertAvailable(answer, conf.pool);
  return succeed();
}

/**
 * What the daemon's answer means to a network whose addresses are of this pool; "" is the default one. Pure.
 * @throws CniError 50 or 51, as `status`
 */
export function assertAvailable(answer: Answer, pool = ""): void {
  const full = exhausted(answer, pool);
  if (full !== undefined) throw new CniError(CNI_CODES.notAvailable, "no address is left", full);
  if (!answer.routesSynced) {
    const details = "the routes to the other nodes have not been in order since the daemon started";
    throw new CniError(CNI_CODES.limitedConnectivity, "the plugin is not available, and pods may be cut off", details);
  }
}

/** The subnets of a family that has nothing left to give, or undefined. What rests counts: it is given when need be. */
function exhausted({ subnets }: Answer, pool: string): string | undefined {
  const own = pool === "" ? DEFAULT_POOL : pool;
  const ofPool = own === DEFAULT_POOL ? "" : ` of pool ${pool}`;
  for (const v6 of [false, true]) {
    const family = subnets.filter(({ cidr }) => cidr.includes(":") === v6);
    const parts = family.map((subnet) => ({ cidr: subnet.cidr, ...(partOf(subnet, own) ?? NOTHING) }));
    if (parts.length > 0 && parts.every(({ free, cooling }) => free + cooling === 0)) {
      return parts.map(({ cidr, used, capacity }) => `${cidr} has ${used} of ${capacity}${ofPool} in use`).join(", ");
    }
  }
  return undefined;
}

/** The counts of a pool's part of a subnet. A daemon from before there were pools has one for all. */
function partOf(subnet: Subnet, pool: string): Counts | undefined {
  return subnet.pools.length === 0 ? subnet : subnet.pools.find(({ name }) => name === pool);
}
