// SPDX-License-Identifier: Apache-2.0
//
// What the tests of this folder share.
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type Attachment, hostLinkName } from "../../net/names.ts";
import { parsePrefix } from "../../net/prefix.ts";
import type { AllocationRequest } from "../plans.ts";

/** A directory that goes with the test. */
export async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ipam-"));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

export function attachment(name: string): Attachment {
  return { network: "pods", containerId: name, ifname: "eth0" };
}

/** A request that leaves the pool to the daemon and keeps nothing for anybody. */
type PlainRequest = Omit<AllocationRequest, "pool" | "sticky">;

export function request(name: string, more: Partial<PlainRequest> = {}): PlainRequest {
  return {
    attachment: attachment(name),
    pod: { namespace: "default", name: `pod-${name}`, uid: `uid-${name}` },
    netns: `/run/netns/${name}`,
    hostIfname: hostLinkName({ ...attachment(name), ...more.attachment }, sha256),
    requestedAddresses: [],
    portMappings: [],
    withGateway: false,
    aliases: [],
    ...more,
  };
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

export function prefixes(...texts: string[]) {
  return texts.map(parsePrefix);
}

/** The boot that the tests run in. */
export const BOOT_ID = "7d3d9e5e-8c52-4d6a-9a5e-0a0a0a0a0a0a";
