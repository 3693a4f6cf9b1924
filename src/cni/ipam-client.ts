// SPDX-License-Identifier: Apache-2.0
//
// The daemon as the plugin knows it: calls of the contract in proto/, and nothing else.
import {
  AllocateRequest,
  AllocateResponse,
  type Allocation as AllocationMessage,
  DetachRequest,
  GetAllocationRequest,
  GetAllocationResponse,
  ListAllocationsRequest,
  ListAllocationsResponse,
  type PodEnd,
  ReleaseRequest,
  StatusRequest,
  StatusResponse,
} from "../gen/flatnet/ipam/v1/ipam.ts";
import { callUnary, RpcError } from "../grpc/client.ts";
import { Status } from "../grpc/status.ts";
import { parseAddress } from "../net/address.ts";
import type { Attachment } from "../net/names.ts";
import type { CmdArgs } from "./args.ts";
import type { DaemonConf, IpamConf, PortMapping } from "./conf.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import type { World } from "./world.ts";

const SERVICE = "/flatnet.ipam.v1.IpamService";
/** One attachment's answer has a few hundred bytes; this leaves room for what later versions add. */
const MAX_RESPONSE_BYTES = 64 * 1024;
/** All attachments of a node, were it 65,536 of them with a few hundred bytes each. */
const MAX_LIST_BYTES = 32 * 1024 * 1024;

/** What ADD asks for. */
export interface Wanted {
  readonly attachment: Attachment;
  readonly args: CmdArgs;
  /** Empty when another plugin makes the link. */
  readonly hostIfname: string;
  readonly portMappings: readonly PortMapping[];
  readonly withGateway: boolean;
  /** What it takes to find the pod's namespace again, and to repair its end of the link where the plugin makes it. */
  readonly podEnd?: PodEnd | undefined;
}

/** Calls with one configuration. Every method throws RpcError. */
export class IpamClient {
  readonly #world: World;
  readonly #conf: DaemonConf;

  constructor(world: World, conf: DaemonConf) {
    this.#world = world;
    this.#conf = conf;
  }

  /** What the daemon said, not yet checked: what it gave has to be given back even if it makes no sense. */
  allocate(conf: IpamConf, wanted: Wanted): AllocateResponse {
    const { attachment, args, hostIfname, portMappings, withGateway, podEnd } = wanted;
    const request = AllocateRequest.encode({
      attachment,
      pod: args.pod,
      netns: args.netns,
      hostIfname,
      requestedAddresses: [...conf.requestedAddresses],
      portMappings: [...portMappings],
      withGateway,
      podEnd,
      aliases: [...conf.aliases],
      pool: conf.pool,
      sticky: conf.sticky,
    });
    return AllocateResponse.decode(this.#call("Allocate", request.finish(), conf.connectWaitMs));
  }

  /**
   * @param connectWaitMs how long to wait for a daemon that isn't listening
   * @param cause why, for the daemon's history; the runtime's DEL when missing
   */
  release(attachment: Attachment, connectWaitMs: number, cause: "" | "gc" | "failed-add" = ""): void {
    this.#call("Release", ReleaseRequest.encode({ attachment, cause }).finish(), connectWaitMs);
  }

  /**
   * Has the attachment's link taken away and its addresses given back; waits for no daemon that isn't listening.
   * @returns false from a daemon that is older than that, and has done nothing
   */
  detach(attachment: Attachment): boolean {
    try {
      this.#call("Detach", DetachRequest.encode({ attachment }).finish(), 0);
      return true;
    } catch (error) {
      if (error instanceof RpcError && error.status === Status.UNIMPLEMENTED) return false;
      throw error;
    }
  }

  /** What the attachment has, and what of its ports is not in the node's kernel; no allocation when it has nothing. */
  get(attachment: Attachment): GetAllocationResponse {
    const request = GetAllocationRequest.encode({ attachment }).finish();
    try {
      return GetAllocationResponse.decode(this.#call("GetAllocation", request, this.#conf.connectWaitMs));
    } catch (error) {
      if (error instanceof RpcError && error.status === Status.NOT_FOUND) {
        return { allocation: undefined, problems: [] };
      }
      throw error;
    }
  }

  list(): AllocationMessage[] {
    return this.#list(this.#conf.connectWaitMs).allocations;
  }

  /** Doesn't wait: a daemon that isn't there is the answer. One that is older than Status tells its subnets otherwise. */
  status(): StatusResponse {
    try {
      return StatusResponse.decode(this.#call("Status", StatusRequest.encode({}).finish(), 0));
    } catch (error) {
      if (!(error instanceof RpcError) || error.status !== Status.UNIMPLEMENTED) throw error;
      // It serves only once its routes have been tried.
      const { subnets, strayAddresses } = this.#list(0);
      return { routesSynced: true, subnets, strayAddresses };
    }
  }

  #list(connectWaitMs: number): ListAllocationsResponse {
    const request = ListAllocationsRequest.encode({}).finish();
    return ListAllocationsResponse.decode(this.#call("ListAllocations", request, connectWaitMs, MAX_LIST_BYTES));
  }

  #call(method: string, message: Uint8Array, connectWaitMs: number, most = MAX_RESPONSE_BYTES): Uint8Array {
    const { traceparent } = this.#world;
    return callUnary(this.#world.sys, {
      socketPath: this.#conf.socket,
      path: `${SERVICE}/${method}`,
      message,
      deadlineMs: this.#conf.timeoutMs,
      connectWaitMs,
      maxResponseBytes: most,
      ...(traceparent !== undefined && { metadata: [["traceparent", traceparent]] }),
    });
  }
}

/** @throws CniError 999 when the configuration names a pool and the daemon is from before there were any */
export function assertPool({ pool }: IpamConf, allocation: AllocateResponse): void {
  if (pool !== "" && allocation.pool === "" && !allocation.existed) {
    throw strange(`pool ${pool} was asked for, and the daemon is older than pools`);
  }
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
