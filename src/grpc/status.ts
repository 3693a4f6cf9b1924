// SPDX-License-Identifier: Apache-2.0
//
// gRPC's status codes, and what stands for one when a peer did not send one. Tables from the gRPC documents
// statuscodes.md, http-grpc-status-mapping.md and PROTOCOL-HTTP2.md ("Errors").

/** Status codes by name. */
export const Status = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** A status code's name, such as "UNAVAILABLE". */
export type StatusName = keyof typeof Status;

/** Name of a status code; a number that is none is UNKNOWN, as the gRPC documents have it. */
export function statusName(code: number): StatusName {
  for (const name in Status) {
    if (Status[name as StatusName] === code) return name as StatusName;
  }
  return "UNKNOWN";
}

/** The status that stands for an HTTP response which carries no grpc-status. */
export function statusOfHttp(status: string): number {
  switch (status) {
    case "400":
      return Status.INTERNAL;
    case "401":
      return Status.UNAUTHENTICATED;
    case "403":
      return Status.PERMISSION_DENIED;
    case "404":
      return Status.UNIMPLEMENTED;
    case "429":
    case "502":
    case "503":
    case "504":
      return Status.UNAVAILABLE;
    default:
      return Status.UNKNOWN;
  }
}

/** The status that stands for a stream reset with an HTTP/2 error code (RFC 9113, section 7). */
export function statusOfReset(errorCode: number): number {
  switch (errorCode) {
    case 0x7: // REFUSED_STREAM
      return Status.UNAVAILABLE;
    case 0x8: // CANCEL
      return Status.CANCELLED;
    case 0xb: // ENHANCE_YOUR_CALM
      return Status.RESOURCE_EXHAUSTED;
    case 0xc: // INADEQUATE_SECURITY
      return Status.PERMISSION_DENIED;
    default:
      return Status.INTERNAL;
  }
}
