// SPDX-License-Identifier: Apache-2.0
//
// How a command says no. The code becomes the exit status in one place (`exitStatus`); the message is for people.

export type CtlErrorCode =
  /** The words after the command make no sense. */
  | "CTL_USAGE"
  /** The daemon can't be asked: no socket, no permission, nobody behind it. */
  | "CTL_UNREACHABLE"
  /** The daemon is older than this flatnetctl and doesn't know the question. */
  | "CTL_OLD_DAEMON"
  /** The daemon answered with an error. */
  | "CTL_REFUSED"
  /** A file can't be read or written, or isn't what it should be. */
  | "CTL_FILE";

export class CtlError extends Error {
  override readonly name = "CtlError";
  readonly code: CtlErrorCode;
  constructor(code: CtlErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** 2 when nothing was asked of the daemon (usage, unreachable), 1 for everything that failed after that. */
export function exitStatus(error: CtlError): 1 | 2 {
  switch (error.code) {
    case "CTL_USAGE":
    case "CTL_UNREACHABLE":
    case "CTL_OLD_DAEMON":
      return 2;
    case "CTL_REFUSED":
    case "CTL_FILE":
      return 1;
  }
}
