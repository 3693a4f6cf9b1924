// SPDX-License-Identifier: Apache-2.0
import { LINK_GROUP, LINK_GROUP_MASK } from "../net/names.ts";
import { compare, type Expression, hostU32, mask, meta } from "./expressions.ts";

/**
 * `iifgroup & 65535 == 26220`: from a pod, or with oifgroup to one. By the mark alone, because a host end whose deletion has
 * begun still carries packets.
 */
export function byHostEnd(group: "iifgroup" | "oifgroup"): Expression[] {
  return [meta(group), mask(hostU32(LINK_GROUP_MASK)), compare(hostU32(LINK_GROUP))];
}
