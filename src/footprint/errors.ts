// SPDX-License-Identifier: Apache-2.0

export type FootprintErrorCode =
  /** A file of the node can't be written or read; the message names it. */
  | "FOOTPRINT_FILE"
  /** The plugin's executable doesn't run on this machine. */
  | "FOOTPRINT_PLUGIN"
  /** A sysctl can't be read or written; the message names it. */
  | "FOOTPRINT_SYSCTL";

export class FootprintError extends Error {
  override readonly name = "FootprintError";
  readonly code: FootprintErrorCode;
  constructor(code: FootprintErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
