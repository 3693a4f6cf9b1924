// SPDX-License-Identifier: Apache-2.0
//
// How the IPAM says no. Only rpc-errors.ts knows what a code means on the wire.

/** Every way a request can fail. The codes are stable; the messages are for people. */
export type IpamErrorCode =
  /** A field of a request or of the configuration is missing or malformed. */
  | "IPAM_INVALID"
  /** A family has no address left, not even a resting one. */
  | "IPAM_EXHAUSTED"
  /** None of the node's subnets gives out an address that was asked for. */
  | "IPAM_OUT_OF_RANGE"
  /** An address or a port that was asked for is another attachment's. */
  | "IPAM_TAKEN"
  /** The attachment exists and is not what is asked for; a DEL has to come first. */
  | "IPAM_PRECONDITION"
  /** There is no such attachment. */
  | "IPAM_UNKNOWN"
  /** What comes with the allocation (AttachmentEffects) could not be done. */
  | "IPAM_EFFECT"
  /** The change could not be made durable, so nothing was handed out or taken back. */
  | "IPAM_STORE"
  /** Whoever asked has gone before the answer, so what the request made is taken back. */
  | "IPAM_ABANDONED"
  /** The service is stopping. */
  | "IPAM_CLOSED"
  /** The socket cannot be served on. */
  | "IPAM_SOCKET";

export class IpamError extends Error {
  override readonly name = "IpamError";
  readonly code: IpamErrorCode;
  /** Which part of the request can't be had, where it is one of these. */
  readonly wish: "addresses" | "pool" | undefined;
  constructor(code: IpamErrorCode, message: string, cause?: unknown, wish?: "addresses" | "pool") {
    super(message, { cause });
    this.code = code;
    this.wish = wish;
  }
}

/** Untrusted text in an error: quoted, and short enough for a gRPC status message. */
export function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}
