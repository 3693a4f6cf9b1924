// SPDX-License-Identifier: Apache-2.0
//
// The CNI error codes and the one table that turns what the plugin's modules throw into them (CNI spec 1.1.0, section 5,
// "Error"). Only this file knows the numbers.
import { RpcError } from "../grpc/client.ts";
import { Status } from "../grpc/status.ts";
import { NetlinkError } from "../netlink/message.ts";
import { PodNetworkError } from "../podnet/errors.ts";
import { SysError } from "../sys/sys.ts";

export const CNI_CODES = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidConfig: 7,
  /** CNI_NETNS is the plugin's own namespace. Not in the spec's table; libcni's ErrInvalidNetNS. */
  invalidNetns: 8,
  tryAgainLater: 11,
  /** STATUS: ADD would fail now. */
  notAvailable: 50,
  /** STATUS: the same, and pods that are there may be cut off. */
  limitedConnectivity: 51,
  /** From 100 on the codes are the plugin's own: the kernel refused a step. */
  kernelRefused: 100,
  /** The pod already has an interface of that name, or this attachment is up already. */
  interfaceExists: 101,
  /** CHECK found the attachment other than ADD made it. */
  differs: 102,
  /** A bug: libcni's ErrInternal. */
  internal: 999,
} as const;

export type CniCode = (typeof CNI_CODES)[keyof typeof CNI_CODES];

/** An error the runtime is to see, printed on stdout. `msg` is short; `details` says what to look at. */
export class CniError extends Error {
  override readonly name = "CniError";
  readonly code: CniCode;
  /** Grows when undoing fails too. */
  details: string;
  constructor(code: CniCode, msg: string, details = "", cause?: unknown) {
    super(msg, { cause });
    this.code = code;
    this.details = details;
  }
}

/** Anything thrown to the error that is printed. */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  if (thrown instanceof NetlinkError) {
    return new CniError(CNI_CODES.kernelRefused, "the kernel refused a step", thrown.message, thrown);
  }
  if (thrown instanceof PodNetworkError) return fromPodNetwork(thrown);
  if (thrown instanceof RpcError) return fromRpc(thrown);
  if (thrown instanceof SysError)
    return new CniError(CNI_CODES.ioFailure, "a system call failed", thrown.message, thrown);
  return new CniError(CNI_CODES.internal, "internal error", String(thrown), thrown);
}

function fromPodNetwork(error: PodNetworkError): CniError {
  return error.code === "PODNET_ROUTE"
    ? new CniError(CNI_CODES.invalidConfig, "invalid network configuration", error.message, error)
    : new CniError(CNI_CODES.invalidEnvironment, "invalid environment", `CNI_NETNS=${error.message}`, error);
}

/** What the daemon refuses for what was asked: the same request won't do the next time either. */
const REFUSALS: readonly number[] = [Status.INVALID_ARGUMENT, Status.OUT_OF_RANGE, Status.FAILED_PRECONDITION];

function fromRpc(error: RpcError): CniError {
  // Everything else may pass: a full subnet, an address or a port that is taken, a restart, a deadline. The runtime tries
  // again on code 11.
  if (REFUSALS.includes(error.status)) {
    return new CniError(CNI_CODES.invalidConfig, "the daemon refused the request", error.message, error);
  }
  return new CniError(
    CNI_CODES.tryAgainLater,
    "the daemon could not be asked or could not do it",
    error.message,
    error,
  );
}

/** The error document of the spec, in the caller's version. */
export function errorDocument(error: CniError, cniVersion: string): string {
  const document = { cniVersion, code: error.code, msg: error.message, details: error.details };
  return JSON.stringify(error.details === "" ? { cniVersion, code: error.code, msg: error.message } : document);
}
