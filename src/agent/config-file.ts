// SPDX-License-Identifier: Apache-2.0
//
// The configuration's file: a map of keys in YAML.
import { parse } from "yaml";
import { ConfigError, firstLine } from "./config-error.ts";

/**
 * @param readFile throws like fs.readFileSync
 * @throws ConfigError
 */
export function readConfigFile(file: string, readFile: (path: string) => string): object {
  let text: string;
  try {
    text = readFile(file);
  } catch (cause) {
    throw new ConfigError("CONFIG_UNREADABLE", `--config ${file} can't be read: ${(cause as Error).message}`, cause);
  }
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw new ConfigError(
      "CONFIG_SYNTAX",
      `--config ${file} is not YAML: ${firstLine((cause as Error).message)}`,
      cause,
    );
  }
  if (document === null) return {};
  if (typeof document !== "object" || Array.isArray(document)) {
    throw new ConfigError("CONFIG_SYNTAX", `--config ${file} is not a map of keys`);
  }
  return document;
}
