// SPDX-License-Identifier: Apache-2.0

/** What can be wrong between the daemon and Kubernetes' API. The codes are stable; the messages are for people. */
export type KubeErrorCode =
  /** Where the API server is, or how to talk to it, can't be read or used: a kubeconfig, a file that it names. */
  | "KUBE_CONFIG"
  /** There are no credentials now: a token's file can't be read, a credential plugin failed. */
  | "KUBE_CREDENTIALS"
  /** Nobody is there, or the connection broke. */
  | "KUBE_UNREACHABLE"
  /** The API server's certificate is not one that the CA vouches for, or ours is none that it takes. */
  | "KUBE_TLS"
  /** It said nothing for too long. */
  | "KUBE_TIMEOUT"
  /** It doesn't know who we are (401). */
  | "KUBE_UNAUTHORIZED"
  /** It knows, and we may not (403). */
  | "KUBE_FORBIDDEN"
  /** 404 */
  | "KUBE_NOT_FOUND"
  /** Somebody else wrote the object meanwhile, or there is one already (409). */
  | "KUBE_CONFLICT"
  /** What was asked for is older than what it remembers (410). */
  | "KUBE_GONE"
  /** The request itself is refused: 400, 422 and all others of 4xx. */
  | "KUBE_REFUSED"
  /** It wants to be left alone for a while (429). */
  | "KUBE_BUSY"
  /** It failed (5xx). */
  | "KUBE_SERVER"
  /** What answers doesn't speak as the API does, or says more than is read. */
  | "KUBE_PROTOCOL"
  /** Whoever asked has given up. */
  | "KUBE_CLOSED";

/** A message never holds a token, a key, or a request's headers. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly code: KubeErrorCode;
  /** HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** `reason` of the answer's meta/v1 Status: "Expired", "AlreadyExists", … */
  readonly reason: string | undefined;
  /** How long the API server asks to wait before the next try, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  constructor(code: KubeErrorCode, message: string, details: KubeErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.reason = details.reason;
    this.retryAfterMs = details.retryAfterMs;
  }
}

export interface KubeErrorDetails {
  readonly cause?: unknown;
  readonly status?: number | undefined;
  readonly reason?: string | undefined;
  readonly retryAfterMs?: number | undefined;
}

const BY_STATUS: Readonly<Record<number, KubeErrorCode>> = {
  401: "KUBE_UNAUTHORIZED",
  403: "KUBE_FORBIDDEN",
  404: "KUBE_NOT_FOUND",
  409: "KUBE_CONFLICT",
  410: "KUBE_GONE",
  429: "KUBE_BUSY",
};

/** Code of an answer that is no success. */
export function codeOfStatus(status: number): KubeErrorCode {
  return BY_STATUS[status] ?? (status >= 500 ? "KUBE_SERVER" : status >= 400 ? "KUBE_REFUSED" : "KUBE_PROTOCOL");
}

/** Untrusted text in a message: quoted and short. */
export function quote(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "nothing");
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
