// SPDX-License-Identifier: Apache-2.0

/** A hostPort that can't be. The message names the mapping; `cause` is the kernel's refusal where it was that. */
export class HostPortError extends Error {
  override readonly name = "HostPortError";
  readonly code: "HOSTPORT_INVALID" | "HOSTPORT_KERNEL";
  constructor(code: HostPortError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
