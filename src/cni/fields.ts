// SPDX-License-Identifier: Apache-2.0
//
// Reading fields of untrusted JSON, one at a time: each function returns a typed value or throws CniError 7 naming the
// field, the value and what it should have been. By hand, because a schema library would cost a start more than the rest
// of the parsing.
import { type AddressError, parseAddress } from "../net/address.ts";
import { CNI_CODES, CniError } from "./errors.ts";

export type Fields = Readonly<Record<string, unknown>>;

export function invalid(field: string, value: unknown, expected: string): CniError {
  const text = value === undefined ? "missing" : (JSON.stringify(value) ?? String(value));
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return new CniError(
    CNI_CODES.invalidConfig,
    "invalid network configuration",
    `${field} is ${shown}, not ${expected}`,
  );
}

/** An absent or null field is no field: runtimes write null for capabilities that a pod does not use. */
export function present(value: unknown): boolean {
  return value !== undefined && value !== null;
}

export function asObject(field: string, value: unknown): Fields {
  if (!present(value)) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw invalid(field, value, "an object");
  return value as Fields;
}

/**
 * An object of a capability: its fields under the names of CONVENTIONS.md, whatever case they came in. containerd writes its
 * Go structs as they are ("HostPort"), and plugins in Go never notice, since their JSON decoder ignores case.
 * A name in its own case goes first.
 */
export function asCapability(field: string, value: unknown, names: readonly string[]): Fields {
  const fields = asObject(field, value);
  const keys = Object.keys(fields);
  const found: Record<string, unknown> = {};
  for (const name of names) {
    const small = name.toLowerCase();
    const key = keys.includes(name) ? name : keys.find((candidate) => candidate.toLowerCase() === small);
    if (key !== undefined) found[name] = fields[key];
  }
  return found;
}

/** @param most longest list that is taken */
export function asList(field: string, value: unknown, most = 1024): readonly unknown[] {
  if (!present(value)) return [];
  if (!Array.isArray(value)) throw invalid(field, value, "a list");
  if (value.length > most) throw invalid(field, `${value.length} items`, `at most ${most}`);
  return value;
}

export function asString(field: string, value: unknown, otherwise: string): string {
  if (!present(value)) return otherwise;
  if (typeof value !== "string") throw invalid(field, value, "a string");
  return value;
}

export function asStrings(field: string, value: unknown): string[] {
  return asList(field, value).map((item, i) => {
    if (typeof item !== "string") throw invalid(`${field}.${i}`, item, "a string");
    return item;
  });
}

export function asInteger(field: string, value: unknown, otherwise: number, least: number, most: number): number {
  if (!present(value)) return otherwise;
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    throw invalid(field, value, `a whole number from ${least} to ${most}`);
  }
  return value;
}

/** @param most longest path that is taken, in bytes */
export function asPath(field: string, value: unknown, otherwise: string, most: number): string {
  const path = asString(field, value, otherwise);
  if (path[0] !== "/" || path.includes("\0")) throw invalid(field, path, "an absolute path");
  if (new TextEncoder().encode(path).length > most) throw invalid(field, path, `a path of at most ${most} bytes`);
  return path;
}

/** An IP address, as bytes. */
export function asAddress(field: string, value: unknown): Uint8Array {
  if (typeof value !== "string") throw invalid(field, value, "an IP address");
  try {
    return parseAddress(value);
  } catch (cause) {
    throw invalid(field, (cause as AddressError).value, "an IP address");
  }
}

/** "10.0.0.0/8" to bytes and length. Host bits are kept: ips[] of a result have them. */
export function asCidr(field: string, value: unknown): { address: Uint8Array; length: number } {
  const text = typeof value === "string" ? value : "";
  const slash = text.indexOf("/");
  if (slash < 0) throw invalid(field, value, "an address with prefix length");
  const address = asAddress(field, text.slice(0, slash));
  const digits = text.slice(slash + 1);
  const length = Number(digits);
  // Number() takes "0x8", " 8" and "" as well; written back it is the same only when it was plain.
  if (!Number.isInteger(length) || length < 0 || length > address.length * 8 || `${length}` !== digits) {
    throw invalid(field, value, `an address with a prefix length from 0 to ${address.length * 8}`);
  }
  return { address, length };
}
