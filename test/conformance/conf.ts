// SPDX-License-Identifier: Apache-2.0
//
// The configuration the suite is given: a plugin's own, or a list with one plugin. From it comes what a runtime would give
// on stdin (CNI spec, section 3, "Deriving request configuration").

import { ConformanceError } from "./errors.ts";
import type { SpecVersion } from "./spec.ts";

/** A request as it goes to the plugin, before it is text. */
export type Request = Readonly<Record<string, unknown>>;

/** A plugin's configuration without what a runtime puts in by itself. */
export interface PluginConf {
  /** Network name. */
  readonly name: string;
  /** Everything else of the plugin's object. */
  readonly fields: Request;
}

/** In a configuration's text: a directory of this run, which is removed at its end. For state that should not be shared. */
export const DIRECTORY_MARK = "@DIR@";

/** @throws ConformanceError CONF saying what is missing. */
export function parseConf(text: string, directory: string): PluginConf {
  const document = parseObject(text.replaceAll(DIRECTORY_MARK, directory));
  const plugin = document["plugins"] === undefined ? document : onlyPlugin(document["plugins"]);
  const { name, cniVersion: _version, cniVersions: _versions, capabilities: _capabilities, ...fields } = plugin;
  const network = document["plugins"] === undefined ? name : document["name"];
  if (typeof network !== "string" || network === "") throw bad("it has no network name");
  if (typeof fields["type"] !== "string") throw bad("the plugin has no type");
  return { name: network, fields };
}

/** The request for a version. Keys of `more` win; those that are undefined are left out. */
export function deriveRequest(conf: PluginConf, cniVersion: SpecVersion, more: Request = {}): Request {
  return { cniVersion, name: conf.name, ...conf.fields, ...more };
}

/** The `ipam` object, if the plugin delegates its addresses. */
export function ipamOf(conf: PluginConf): Request | undefined {
  const ipam = conf.fields["ipam"];
  return isObject(ipam) && typeof ipam["type"] === "string" && ipam["type"] !== "" ? ipam : undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ConformanceError("CONF", `it is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(value)) throw bad("it is not a JSON object");
  return value;
}

function onlyPlugin(plugins: unknown): Record<string, unknown> {
  if (!Array.isArray(plugins) || plugins.length !== 1 || !isObject(plugins[0])) {
    throw bad("plugins has to be a list of one object: the suite tries one plugin, not a chain");
  }
  return plugins[0];
}

function bad(problem: string): ConformanceError {
  return new ConformanceError("CONF", problem);
}
