// SPDX-License-Identifier: Apache-2.0

/** A peers file that can't be used. The message names the field, the value and, for a clash, both nodes. */
export class PeersError extends Error {
  override readonly name = "PeersError";
  readonly code: "PEERS_UNREADABLE" | "PEERS_SYNTAX" | "PEERS_INVALID";
  constructor(code: PeersError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
