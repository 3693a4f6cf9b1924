// SPDX-License-Identifier: Apache-2.0
//
// The one place that knows which gRPC status a failure is. The plugin turns the status into a CNI code.
import { status } from "@grpc/grpc-js";
import { IpamError, type IpamErrorCode } from "./errors.ts";

const STATUS: Record<IpamErrorCode, status> = {
  IPAM_INVALID: status.INVALID_ARGUMENT,
  IPAM_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  IPAM_OUT_OF_RANGE: status.OUT_OF_RANGE,
  IPAM_TAKEN: status.ALREADY_EXISTS,
  IPAM_PRECONDITION: status.FAILED_PRECONDITION,
  IPAM_UNKNOWN: status.NOT_FOUND,
  IPAM_EFFECT: status.INTERNAL,
  // Not UNAVAILABLE: asking again within seconds does not mend a full disk, and a plugin would wait in vain.
  IPAM_STORE: status.INTERNAL,
  IPAM_ABANDONED: status.CANCELLED,
  IPAM_CLOSED: status.UNAVAILABLE,
  IPAM_SOCKET: status.INTERNAL,
};

/**
 * Longest message in characters; a status travels in the trailers, whose size peers bound. (Cut text must be made well
 * formed: grpc-js percent-encodes it, and half a surrogate pair makes that throw.)
 */
const MESSAGE_LIMIT = 1000;

export interface RpcStatus {
  readonly code: status;
  readonly details: string;
}

/** Any error as a status. What is not an IpamError is a bug: its text stays here, in the log. */
export function toStatus(error: unknown): RpcStatus {
  if (!(error instanceof IpamError)) {
    return { code: status.INTERNAL, details: "the daemon failed; its log says more" };
  }
  return { code: STATUS[error.code], details: error.message.slice(0, MESSAGE_LIMIT).toWellFormed() };
}
