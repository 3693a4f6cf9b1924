// SPDX-License-Identifier: Apache-2.0
//
// What host-local (containernetworking/plugins, plugins/ipam/host-local/backend/disk) has given out: a directory for each
// network, in it a file for each address, named by it, that says to whom. Only read here, never changed.
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { formatAddress, parseAddress } from "../net/address.ts";
import { CtlError } from "./errors.ts";

/** An address and whose it is. */
export interface Reservation {
  /** Canonical text. */
  readonly address: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** A file that is no reservation although it looks as if it should be one. */
export interface Oddity {
  readonly file: string;
  readonly why: string;
}

export interface HostLocalState {
  readonly reservations: readonly Reservation[];
  readonly oddities: readonly Oddity[];
}

/** A container ID and an interface name are far shorter. */
const FILE_LIMIT = 4096;

/** host-local's own bookkeeping. */
const BOOKKEEPING = /^(lock|last_reserved_ip(\.\d+)?)$/;

/**
 * Reads a network's directory.
 * @param ifname of those whose file has none, as host-local before 0.7 wrote them
 * @throws CtlError CTL_FILE
 */
export async function readHostLocal(directory: string, ifname: string): Promise<HostLocalState> {
  const reservations: Reservation[] = [];
  const oddities: Oddity[] = [];
  let names: string[];
  try {
    names = (await readdir(directory)).filter((name) => !BOOKKEEPING.test(name)).sort();
  } catch (cause) {
    throw new CtlError("CTL_FILE", `host-local's directory can't be read: ${(cause as Error).message}`, cause);
  }
  for (const name of names) {
    const found = parseReservation(name, await readContent(join(directory, name)), ifname);
    if ("why" in found) oddities.push(found);
    else reservations.push(found);
  }
  return { reservations, oddities };
}

/** One file by its name and content; undefined content is a file that can't be read. Pure. */
export function parseReservation(
  file: string,
  content: string | undefined,
  defaultIfname: string,
): Reservation | Oddity {
  let address: string;
  try {
    address = formatAddress(parseAddress(file));
  } catch {
    // The name is the only thing that tells an address from whatever else lies there.
    return { file, why: "its name is no address" };
  }
  if (content === undefined) return { file, why: "it can't be read" };
  const [containerId = "", ifname = defaultIfname, ...more] = content.trim().split(/\r?\n/);
  if (containerId === "") return { file, why: "it names no container" };
  if (more.length > 0) return { file, why: "it has more than two lines" };
  return { address, containerId: containerId.trim(), ifname: ifname.trim() };
}

/** The beginning of a file, or undefined when it is none that can be read: a directory, or one that went meanwhile. */
async function readContent(path: string): Promise<string | undefined> {
  try {
    const file = await open(path);
    try {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(FILE_LIMIT), 0, FILE_LIMIT, 0);
      return buffer.subarray(0, bytesRead).toString("utf8");
    } finally {
      await file.close();
    }
  } catch {
    // Reported with the file's name by whoever parses it.
    return undefined;
  }
}
