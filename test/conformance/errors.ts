// SPDX-License-Identifier: Apache-2.0

/**
 * The suite can't do its work: wrong options, a configuration that is none, a machine without namespaces. What is wrong with
 * a plugin is never an error but a verdict.
 */
export class ConformanceError extends Error {
  override readonly name = "ConformanceError";
  readonly code: "USAGE" | "CONF" | "SANDBOX";
  constructor(code: ConformanceError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
