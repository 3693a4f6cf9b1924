// SPDX-License-Identifier: Apache-2.0
import type { StatusResponse } from "../gen/flatnet/ipam/v1/ipam.ts";
import { RpcError } from "../grpc/client.ts";
import type { DaemonConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { IpamClient } from "./ipam-client.ts";
import { type Outcome, succeed, type World } from "./world.ts";

/**
 * STATUS: whether ADD would work now. One round trip, because runtimes ask every few seconds.
 * @throws CniError 50 when the daemon can't be asked or a family has no address left, 51 when the routes to the other
 * nodes have never been in order
 */
export function status(world: World, conf: DaemonConf): Outcome {
  let answer: StatusResponse;
  try {
    answer = new IpamClient(world, conf).status();
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    throw new CniError(CNI_CODES.notAvailable, "the plugin is not available", error.message, error);
  }
  assertAvailable(answer);
  return succeed();
}

/**
 * What the daemon's answer means. Pure.
 * @throws CniError 50 or 51, as `status`
 */
export function assertAvailable(answer: StatusResponse): void {
  const full = exhausted(answer);
  if (full !== undefined) throw new CniError(CNI_CODES.notAvailable, "no address is left", full);
  if (!answer.routesSynced) {
    const details = "the routes to the other nodes have not been in order since the daemon started";
    throw new CniError(CNI_CODES.limitedConnectivity, "the plugin is not available, and pods may be cut off", details);
  }
}

/** The subnets of a family that has nothing left to give, or undefined. What rests counts: it is given when need be. */
function exhausted({ subnets }: StatusResponse): string | undefined {
  for (const v6 of [false, true]) {
    const family = subnets.filter(({ cidr }) => cidr.includes(":") === v6);
    if (family.length > 0 && family.every(({ free, cooling }) => free + cooling === 0)) {
      return family.map(({ cidr, used, capacity }) => `${cidr} has ${used} of ${capacity} in use`).join(", ");
    }
  }
  return undefined;
}
