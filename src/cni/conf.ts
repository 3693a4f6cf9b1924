// SPDX-License-Identifier: Apache-2.0
//
// The plugin's configuration: what a runtime derives from the conflist and gives on stdin (CNI spec, section 3). Parsed
// once, by hand: a schema library would cost more than the whole rest of the parsing. Pure.
import { IDENTIFIER_MAX } from "../net/names.ts";
import { isIdentifier } from "./args.ts";
import { CNI_CODES, CniError } from "./errors.ts";
import { assertSupported, type CniVersion } from "./version.ts";

/** Largest configuration that is read, in bytes. */
export const CONF_MAX_BYTES = 1 << 20;

export interface PluginConf {
  readonly cniVersion: CniVersion;
  /** Name of the network, a part of every key. */
  readonly name: string;
  /** Path of the daemon's unix socket. */
  readonly socket: string;
  /** Deadline of a whole call to the daemon, in milliseconds. */
  readonly timeoutMs: number;
  /** How long, out of `timeoutMs`, to wait for a daemon that isn't listening: it may be restarting. */
  readonly connectWaitMs: number;
  /** MTU in bytes for both ends; 0 takes the daemon's. */
  readonly mtu: number;
  /** Where DEL leaves word for a daemon that is down. */
  readonly journalDir: string;
  /** There is a result of an earlier plugin (ADD), or of the attachment's own ADD (DEL). */
  readonly hasPrevResult: boolean;
}

export const DEFAULT_SOCKET = "/run/flatnet/flatnetd.sock";
export const DEFAULT_JOURNAL_DIR = "/var/lib/flatnet/journal";
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_CONNECT_WAIT_MS = 5_000;
/** The sun_path of a unix socket's address without its closing zero. */
const SOCKET_PATH_MAX = 107;

/** @throws CniError 6 when the text is no JSON object, 7 naming the field and its value, 1 for a version. */
export function parsePluginConf(text: string): PluginConf {
  const conf = parseObject(text);
  const cniVersion = assertSupported(stringField(conf, "cniVersion", "0.2.0"));
  const name = stringField(conf, "name", "");
  if (!isIdentifier(name) || name.length > IDENTIFIER_MAX) {
    throw invalid("name", conf["name"], 'a network name of letters, digits, "_", "." and "-"');
  }
  const timeoutMs = integerField(conf, "timeoutMs", DEFAULT_TIMEOUT_MS, 1, 600_000);
  return {
    cniVersion,
    name,
    socket: pathField(conf, "socket", DEFAULT_SOCKET, SOCKET_PATH_MAX),
    timeoutMs,
    connectWaitMs: integerField(conf, "connectWaitMs", Math.min(DEFAULT_CONNECT_WAIT_MS, timeoutMs), 0, timeoutMs),
    mtu: mtuField(conf),
    journalDir: pathField(conf, "journalDir", DEFAULT_JOURNAL_DIR, 3000),
    hasPrevResult: conf["prevResult"] !== undefined && conf["prevResult"] !== null,
  };
}

/** The cniVersion of a text that may be anything, to answer errors and VERSION in. */
export function versionIn(text: string, otherwise: string): string {
  try {
    const version = (JSON.parse(text) as { cniVersion?: unknown } | null)?.cniVersion;
    return typeof version === "string" && version !== "" ? version : otherwise;
  } catch {
    // Not JSON: whoever parses it for real says so.
    return otherwise;
  }
}

type Fields = Readonly<Record<string, unknown>>;

function parseObject(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const got = text.trim() === "" ? "nothing" : JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
    throw new CniError(
      CNI_CODES.decodingFailure,
      "the network configuration on stdin is not JSON",
      `got ${got}`,
      cause,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CniError(CNI_CODES.decodingFailure, "the network configuration on stdin is not a JSON object");
  }
  return value as Fields;
}

function stringField(conf: Fields, field: string, otherwise: string): string {
  const value = conf[field];
  if (value === undefined) return otherwise;
  if (typeof value !== "string") throw invalid(field, value, "a string");
  return value;
}

function integerField(conf: Fields, field: string, otherwise: number, least: number, most: number): number {
  const value = conf[field];
  if (value === undefined) return otherwise;
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    throw invalid(field, value, `a whole number from ${least} to ${most}`);
  }
  return value;
}

/** 0 or absent takes the daemon's. 68 is the least that IPv4 allows (RFC 791); IPv6 needs 1280 (RFC 8200, section 5). */
function mtuField(conf: Fields): number {
  const value = integerField(conf, "mtu", 0, 0, 65_535);
  if (value !== 0 && value < 68) throw invalid("mtu", value, "0 or a whole number from 68 to 65535");
  return value;
}

function pathField(conf: Fields, field: string, otherwise: string, most: number): string {
  const value = stringField(conf, field, otherwise);
  if (value[0] !== "/" || value.includes("\0")) throw invalid(field, value, "an absolute path");
  if (new TextEncoder().encode(value).length > most) throw invalid(field, value, `a path of at most ${most} bytes`);
  return value;
}

function invalid(field: string, value: unknown, expected: string): CniError {
  const text = value === undefined ? "missing" : (JSON.stringify(value) ?? String(value));
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return new CniError(
    CNI_CODES.invalidConfig,
    "invalid network configuration",
    `${field} is ${shown}, not ${expected}`,
  );
}
