// SPDX-License-Identifier: Apache-2.0
//
// Why a lab could not do what it was asked. A network that is not flat is no error: that is a verdict.

export type LabErrorCode =
  | "LAB_USAGE"
  | "LAB_NOT_ROOT"
  | "LAB_IN_USE"
  | "LAB_NOT_UP"
  | "LAB_STATE_INVALID"
  | "LAB_COMMAND_FAILED"
  | "LAB_HOST_FAILED"
  | "LAB_DAEMON_FAILED"
  | "LAB_ATTACH_FAILED"
  | "LAB_LEFT_BEHIND"
  | "LAB_INTERRUPTED";

/** One line for a person; `code` is stable. `detail` has further lines, such as the end of a log. */
export class LabError extends Error {
  override readonly name = "LabError";
  readonly code: LabErrorCode;
  readonly detail: readonly string[];
  constructor(code: LabErrorCode, message: string, options: { cause?: unknown; detail?: readonly string[] } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.detail = options.detail ?? [];
  }
}

/** The message of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
