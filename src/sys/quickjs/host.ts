// SPDX-License-Identifier: Apache-2.0
//
// What host.c gives the plugin's one module: the global object `host`.
import type { Libc } from "../libc.ts";

export interface Host extends Libc {
  /** errno of the last call that failed. */
  errno(): number;
  /** CLOCK_MONOTONIC in milliseconds. */
  now(): number;
  sleep(ms: number): void;
  /** Ends the process at once. */
  exit(status: number): never;
  /** SIGKILL to this process; in the fault build only. */
  kill?(): never;
  /** UTF-8 as TextEncoder makes it: half of a surrogate pair becomes U+FFFD. */
  encodeUtf8(text: string): ArrayBuffer;
  /** As a fatal TextDecoder reads it, without a byte order mark; null when it isn't UTF-8. */
  decodeUtf8(bytes: Uint8Array): string | null;
  /** JSON.parse with a bound on how deep the text is nested. Throws SyntaxError. */
  parseJson(text: string): unknown;
  /**
   * Set by the module: what it is for. The module's own top level runs when the executable is built, and what it made is kept in
   * there; of this process are only the properties below, and the clocks.
   */
  start?: () => void;
  readonly env: Readonly<Record<string, string>>;
  readonly argv: readonly string[];
  /** Path of the executable, links followed; empty when /proc isn't there. */
  readonly execPath: string;
  readonly pid: number;
}

declare global {
  var host: Host;
}
