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

/** What the daemon said, not yet checked: what it gave has to be given back even if it makes no sense. */
export interface Allocation {
  readonly addresses: readonly string[];
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
  const request = AllocateRequest.encode({
    attachment,
    pod,
    netns,
    hostIfname,
    requestedAddresses: [],
    portMappings: [],
    withGateway: false,
  }).finish();
  return AllocateResponse.decode(call(sys, conf, "Allocate", request, conf.connectWaitMs));
}

/**
 * The addresses as bytes, IPv4 first as the daemon has it.
 * @returns one a family at most, at least one
 * @throws CniError 999 naming what no pod can have
 */
export function podAddresses(texts: readonly string[]): Uint8Array[] {
  if (texts.length === 0) throw strange("no address");
  const addresses: Uint8Array[] = [];
  for (const text of texts) {
    const address = parseOrRefuse(text);
    if (addresses.some((other) => other.length === address.length))
      throw strange(`two of a family: ${texts.join(", ")}`);
    addresses.push(address);
  }
  return addresses;
}

function parseOrRefuse(text: string): Uint8Array {
  let address: Uint8Array;
  try {
    address = parseAddress(text);
  } catch (cause) {
    throw strange((cause as Error).message, cause);
  }
  if (!isHost(address)) throw strange(`${text}, which is no host's address`);
  return address;
}

/** Not "this host", loopback, link-local, multicast or reserved (RFC 6890); for IPv6 not IPv4 in disguise either. */
function isHost(address: Uint8Array): boolean {
  const [a = 0, b = 0] = address;
  if (address.length === 4) return a !== 0 && a !== 127 && a < 224 && !(a === 169 && b === 254);
  return a !== 0 && a !== 0xff && !(a === 0xfe && (b & 0xc0) === 0x80);
}

function strange(what: string, cause?: unknown): CniError {
  return new CniError(CNI_CODES.internal, "the daemon's answer makes no sense", what, cause);
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
