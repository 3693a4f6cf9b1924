// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the configuration share.
import { expect } from "vitest";
import { type Config, parseConfig } from "../config.ts";
import { ConfigError } from "../config-error.ts";

/** A name and a subnet, which are enough. */
export const GOOD = ["--node-name", "node1", "--pod-cidr", "10.244.1.0/24"];
/** The one file that there is. */
export const FILE = "/etc/flatnetd.yaml";

/** Reads like a file system that has one file, or none. */
export function disk(text: string | undefined) {
  return (path: string): string => {
    if (path !== FILE || text === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`);
    return text;
  };
}

/** With the text of a file or without. */
export function parse(args: readonly string[], file?: string): Config {
  const config = parseConfig(file === undefined ? args : ["--config", FILE, ...args], disk(file));
  if (config === "help") throw new Error("it was help");
  return config;
}

/** How the same is refused. */
export function refusal(args: readonly string[], file?: string): { code: string; message: string } {
  try {
    parse(args, file);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { code, message } = error as ConfigError;
    // One line of a log, or of a terminal.
    expect(message).not.toContain("\n");
    return { code, message };
  }
  throw new Error("it was accepted");
}
