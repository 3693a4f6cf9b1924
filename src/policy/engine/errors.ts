// SPDX-License-Identifier: Apache-2.0

/** The kernel could not be brought in line with the policies. */
export class PolicyError extends Error {
  override readonly name = "PolicyError";
  readonly code: "POLICY_KERNEL" | "POLICY_UNSTEADY";
  constructor(code: PolicyError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
