// SPDX-License-Identifier: Apache-2.0
import * as v from "valibot";
import { parseAddress } from "../../net/address.ts";
import { parsePrefix } from "../../net/prefix.ts";
import type { BgpNode } from "../sessions.ts";
import { BgpSchema, type BgpSettings } from "../settings.ts";

/** A node of both families, or of those that are named. */
export function node(number: number, families: readonly (4 | 6)[] = [4, 6]): BgpNode {
  return {
    name: `node-${number}`,
    addresses: families.map((family) => parseAddress(family === 4 ? `172.31.0.${number}` : `fd00:31::${number}`)),
    podCIDRs: families.map((family) => parsePrefix(family === 4 ? `10.77.${number}.0/24` : `fd00:77:${number}::/64`)),
  };
}

/** `routes.bgp` as it is used, from what people write. */
export function settings(written: object = {}): BgpSettings {
  return v.parse(BgpSchema, written);
}
