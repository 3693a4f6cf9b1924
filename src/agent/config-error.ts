// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with a configuration, in one line for a log or a terminal.

/** A configuration that can't be used. The message names every flag or key that is wrong, with its value. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly code: "CONFIG_UNREADABLE" | "CONFIG_SYNTAX" | "CONFIG_INVALID" | "CONFIG_FLAGS";
  constructor(code: ConfigError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export function invalid(problems: readonly string[]): ConfigError {
  return new ConfigError("CONFIG_INVALID", problems.join("; "));
}

/** Libraries go on with advice and excerpts. */
export function firstLine(text: string): string {
  return (text.split("\n")[0] as string).replace(/[.:]$/, "");
}
