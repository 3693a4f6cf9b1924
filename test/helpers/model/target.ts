// SPDX-License-Identifier: Apache-2.0
//
// Which pods and attachments a command is about. Commands are drawn before there are any, so they say places in lists.

import { createHash } from "node:crypto";
import { hostLinkName } from "../../../src/net/names.ts";
import { type Attachment, keyOf, type Model, type ModelPod, type Wish } from "./model.ts";
import type { Reality } from "./reality.ts";

/** Name of the network; FlatnetNode's. */
const NETWORK = "tests";

export const NO_WISH: Wish = { portMappings: [], ips: [] };

/** Which attachment a command is about: places in lists that are as long as they are by then. */
export interface Target {
  readonly pod: number;
  /** Of the containers that claim the pod's namespace. */
  readonly container: number;
  readonly ifname: string;
}

export async function podAt(model: Model, reality: Reality, index: number): Promise<ModelPod> {
  // A runtime never comes back to a namespace that is gone, but for one ADD that is on its way.
  const existing = model.pods.findLast((pod) => pod.index === index);
  if (existing !== undefined) return existing;
  return newPod(model, reality, index);
}

export async function newPod(model: Model, reality: Reality, index: number): Promise<ModelPod> {
  const { path } = await reality.createPod();
  const pod = { index, path, alive: true };
  model.pods.push(pod);
  return pod;
}

export function attachmentFor(model: Model, pod: ModelPod, { container, ifname }: Omit<Target, "pod">): Attachment {
  const generation = model.pods.filter(({ index }) => index === pod.index).length;
  const containerId = `pod${pod.index}-${generation}-c${container}`;
  const key = keyOf({ containerId, ifname });
  const existing = model.attachments.get(key);
  if (existing !== undefined) return existing;
  const sha256 = (text: string) => createHash("sha256").update(text).digest();
  const attachment: Attachment = {
    containerId,
    ifname,
    pod,
    hostIfname: hostLinkName({ network: NETWORK, containerId, ifname }, sha256),
    wish: NO_WISH,
    perhaps: [],
    addresses: undefined,
    record: "no",
    onlyAppears: false,
    link: "no",
    making: "whole",
    missing: new Set(),
    note: "no",
    result: undefined,
  };
  model.attachments.set(key, attachment);
  return attachment;
}

/** One of those that there ever were, or of those that `where` says. */
export function pick(
  model: Model,
  n: number,
  where: (attachment: Attachment) => boolean = () => true,
): Attachment | undefined {
  const all = [...model.attachments.values()].filter(where);
  return all[n % Math.max(all.length, 1)];
}

export const isThere = ({ record, link }: Attachment) => record !== "no" || link !== "no";

export function show({ pod, container, ifname }: Target, wish?: Wish): string {
  const nothing = wish === undefined || (wish.portMappings.length === 0 && wish.ips.length === 0);
  return `pod ${pod} container ${container} ${ifname}${nothing ? "" : ` (${showWish(wish)})`}`;
}

export function showWish({ portMappings, ips }: Wish): string {
  const wants = [...portMappings.map((port) => JSON.stringify(port)), ...ips];
  return wants.length === 0 ? "nothing" : wants.join(", ");
}
