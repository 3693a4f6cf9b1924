// SPDX-License-Identifier: Apache-2.0
//
// What a lab leaves on disk while it is up, and the lock that says somebody works on it.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { LabError } from "./errors.ts";
import type { Topology } from "./topology.ts";

/** Everything of a lab is below this folder and the lab's name. */
export const LAB_ROOT = "/run/flatnet-lab";

export function labDir(name: string): string {
  return join(LAB_ROOT, name);
}

/** Files of one node's daemon. */
export interface NodePaths {
  readonly dir: string;
  readonly stateDir: string;
  readonly socket: string;
  readonly journalDir: string;
  readonly peers: string;
  readonly config: string;
  readonly log: string;
}

/** Files of the router's BIRD. */
export function routerPaths(labName: string): {
  dir: string;
  config: string;
  socket: string;
  pid: string;
  log: string;
} {
  const dir = join(labDir(labName), "router");
  return {
    dir,
    config: join(dir, "bird.conf"),
    socket: join(dir, "bird.ctl"),
    pid: join(dir, "bird.pid"),
    log: join(dir, "bird.log"),
  };
}

export function nodePaths(labName: string, node: string): NodePaths {
  const dir = join(labDir(labName), node);
  return {
    dir,
    stateDir: join(dir, "state"),
    socket: join(dir, "flatnetd.sock"),
    journalDir: join(dir, "state", "journal"),
    peers: join(dir, "peers.yaml"),
    config: join(dir, "flatnetd.yaml"),
    log: join(dir, "flatnetd.log"),
  };
}

/** lab.json. A lab that isn't kept has no business being there without its process. */
export interface LabState {
  readonly version: 2;
  readonly kept: boolean;
  readonly topology: Topology;
}

/** Replaces the file in one step: a reader sees the old one or the new one. */
export async function writeState(state: LabState): Promise<void> {
  const dir = labDir(state.topology.name);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, "lab.json");
  await writeFile(`${path}.new`, `${JSON.stringify(state, undefined, 2)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/**
 * The lab's state, or undefined when there is none.
 * @throws LabError LAB_STATE_INVALID when the file is there and is not what this version writes.
 */
export async function readState(name: string): Promise<LabState | undefined> {
  const path = join(labDir(name), "lab.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const state = JSON.parse(text) as Partial<LabState>;
    if (state.version === 2 && typeof state.kept === "boolean" && state.topology?.name === name)
      return state as LabState;
  } catch (cause) {
    throw new LabError("LAB_STATE_INVALID", `${path} is not JSON`, { cause });
  }
  throw new LabError("LAB_STATE_INVALID", `${path} was not written by this version of the lab`);
}

/** Held while a process works on the lab. */
export interface LabLock {
  release(): Promise<void>;
}

/**
 * Takes the lab's lock: an abstract unix socket (unix(7)), which the kernel takes back however its process ends.
 * @throws LabError LAB_IN_USE, naming the process that has it.
 */
export async function lockLab(name: string): Promise<LabLock> {
  const path = `\0flatnet-lab/${name}`;
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.end(String(process.pid));
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path }, resolve);
    });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EADDRINUSE") throw cause;
    const pid = await holderOf(path);
    const who = pid === "" ? "another process" : `process ${pid}`;
    throw new LabError("LAB_IN_USE", `lab ${name} is in use by ${who}; --name gives this one another name`, { cause });
  }
  return {
    release: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

function holderOf(path: string): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ path });
    socket.setTimeout(500, () => socket.destroy());
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
    });
    // The pid is only for the message.
    socket.on("error", () => {});
    socket.on("close", () => resolve(/^\d{1,10}$/.test(text) ? text : ""));
  });
}
