// SPDX-License-Identifier: Apache-2.0
//
// The daemon as the plugin knows it: two calls of the contract in proto/, and nothing else.
import { AllocateRequest, AllocateResponse, ReleaseRequest } from "../gen/flatnet/ipam/v1/ipam.ts";
import { callUnary } from "../grpc/client.ts";
import { parseAddress } from "../net/address.ts";
import type { Attachment } from "../net/names.ts";
import type { Sys } from "../sys/sys.ts";
import type { K8sArgs } from "./args.ts";
import type { PluginConf } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";

const SERVICE = "/flatnet.ipam.v1.IpamService";
/** An answer has two addresses; this leaves room for what later versions add. */
const MAX_RESPONSE_BYTES = 64 * 1024;

export interface Allocation {
  /** One a family at most, at least one. */
  readonly addresses: readonly Uint8Array[];
  /** In bytes. */
  readonly mtu: number;
  /** The attachment had them before this call. */
  readonly existed: boolean;
}

/** @throws RpcError when the daemon can't be asked or refuses. */
export function allocate(
  sys: Sys,
  conf: PluginConf,
  attachment: Attachment,
  pod: K8sArgs | undefined,
  netns: string,
  hostIfname: string,
): Allocation {
  const request = AllocateRequest.encode({ attachment, pod, netns, hostIfname }).finish();
  const answer = AllocateResponse.decode(call(sys, conf, "Allocate", request, conf.connectWaitMs));
  if (answer.addresses.length === 0) throw new CniError(CNI_CODES.internal, "the daemon gave no address");
  return { addresses: answer.addresses.map(parseAddress), mtu: answer.mtu, existed: answer.existed };
}

/**
 * @param connectWaitMs how long to wait for a daemon that isn't listening
 * @throws RpcError
 */
export function release(sys: Sys, conf: PluginConf, attachment: Attachment, connectWaitMs: number): void {
  call(sys, conf, "Release", ReleaseRequest.encode({ attachment }).finish(), connectWaitMs);
}

function call(sys: Sys, conf: PluginConf, method: string, message: Uint8Array, connectWaitMs: number): Uint8Array {
  return callUnary(sys, {
    socketPath: conf.socket,
    path: `${SERVICE}/${method}`,
    message,
    deadlineMs: conf.timeoutMs,
    connectWaitMs,
    maxResponseBytes: MAX_RESPONSE_BYTES,
  });
}
