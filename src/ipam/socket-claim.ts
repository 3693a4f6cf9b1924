// SPDX-License-Identifier: Apache-2.0
//
// A unix socket at a path of ours, private from its first moment and without a moment in which it is missing: it is bound
// inside a directory that only we can enter, given its mode there, and then renamed to its place, over what a dead daemon
// left. (Setting the umask around bind(2) would do it too, but the umask is the whole process's.)
import type { BigIntStats } from "node:fs";
import { chmod, lstat, mkdtemp, rename, rm, unlink } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { IpamError } from "./errors.ts";

/** sizeof(sun_path) - 1 (linux/un.h). */
const SOCKET_PATH_LIMIT = 107;

export interface SocketClaim {
  /** Removes the socket file, if it is still the one that was bound here. */
  release(): Promise<void>;
}

/**
 * @param bind listens on the path it is given
 * @throws IpamError IPAM_SOCKET
 */
export async function claimSocket(path: string, bind: (path: string) => Promise<void>): Promise<SocketClaim> {
  if (!path.startsWith("/")) throw new IpamError("IPAM_SOCKET", `socket path ${path} is not absolute`);
  await refuseWhenTaken(path);
  let privateDirectory: string;
  try {
    privateDirectory = await mkdtemp(`${dirname(path)}/.`);
  } catch (cause) {
    throw new IpamError("IPAM_SOCKET", `socket ${path} cannot be made: ${messageOf(cause)}`, cause);
  }
  try {
    const boundPath = join(privateDirectory, "s");
    const length = Math.max(Buffer.byteLength(path), Buffer.byteLength(boundPath));
    if (length > SOCKET_PATH_LIMIT) {
      throw new IpamError(
        "IPAM_SOCKET",
        `socket path ${path} is too long (${length} bytes, ${SOCKET_PATH_LIMIT} at most)`,
      );
    }
    await bind(boundPath);
    globalThis.faultPoint?.("daemon.socket-bound");
    await chmod(boundPath, 0o600);
    await rename(boundPath, path);
    globalThis.faultPoint?.("daemon.socket-in-place");
  } catch (cause) {
    if (cause instanceof IpamError) throw cause;
    throw new IpamError("IPAM_SOCKET", `socket ${path} cannot be made: ${messageOf(cause)}`, cause);
  } finally {
    await rm(privateDirectory, { recursive: true, force: true });
  }
  const ours = await lstat(path, { bigint: true });
  return {
    release: async () => {
      const now = await lstatIfThere(path);
      // A daemon that was started after us may have its own socket there.
      if (now?.ino === ours.ino && now.dev === ours.dev) await unlink(path);
    },
  };
}

/**
 * Whether somebody answers on the path already, or it is something else than a socket.
 * @throws IpamError IPAM_SOCKET
 */
export async function refuseWhenTaken(path: string): Promise<void> {
  const stats = await lstatIfThere(path);
  if (stats === undefined) return;
  if (!stats.isSocket()) throw new IpamError("IPAM_SOCKET", `${path} exists and is not a socket`);
  const failure = await tryConnect(path);
  if (failure === undefined) throw new IpamError("IPAM_SOCKET", `${path} is served by another process`);
  // ECONNREFUSED: nobody listens; ENOENT: it has just gone. Anything else (EAGAIN: its backlog is full) is somebody.
  if (failure.code !== "ECONNREFUSED" && failure.code !== "ENOENT") {
    throw new IpamError("IPAM_SOCKET", `${path} may be served by another process: ${failure.message}`, failure);
  }
}

/** Why nobody could be reached on the socket, or undefined. */
function tryConnect(path: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((done) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      done(undefined);
    });
    socket.once("error", done);
  });
}

async function lstatIfThere(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new IpamError("IPAM_SOCKET", `${path} cannot be looked at: ${messageOf(cause)}`, cause);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
