// SPDX-License-Identifier: Apache-2.0
//
// Brings a server on this machine's loopback into a network namespace, where it has an address of that network. What nodes
// see of a server that is away or silent is made here, whichever server it is.
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cleanup, type Daemon, startDaemon } from "../daemon.ts";
import { inNetns, type Netns } from "../netns.ts";

const SCRIPT = new URL("./relay.script.ts", import.meta.url).pathname;

export interface Relay {
  /** Every connection breaks, and a new one is refused. */
  stop(): Promise<void>;
  /** Takes connections again, after `stop`. */
  start(): Promise<void>;
  /** Connections stay, and are made, and nothing comes through them until `thaw`. */
  freeze(): void;
  thaw(): void;
}

/**
 * Starts it at an address that the namespace has.
 * @param target "https://127.0.0.1:PORT"; of its path nothing is used
 */
export async function startRelay(
  { netns, address, port }: { netns: Netns; address: string; port: number },
  target: string,
  cleanup: Cleanup,
): Promise<Relay> {
  const directory = mkdtempSync(join(tmpdir(), "relay-"));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const socket = join(directory, "socket");
  const { hostname, port: targetPort } = new URL(target);
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (from) => {
    const to = connect({ host: hostname, port: Number(targetPort), allowHalfOpen: true });
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socket, resolve);
  });
  cleanup.add(() => {
    server.close();
    for (const one of open) one.destroy();
  });

  let daemon: Daemon | undefined;
  const relay: Relay = {
    async start() {
      daemon ??= await startDaemon({
        argv: inNetns(netns.path, process.execPath, SCRIPT, address, `${port}`, socket),
        ready: (output) => output.includes("listening"),
      });
    },
    async stop() {
      // A frozen process would not hear of anything else.
      await daemon?.stop("SIGKILL");
      daemon = undefined;
    },
    freeze: () => void (daemon && process.kill(daemon.pid, "SIGSTOP")),
    thaw: () => void (daemon && process.kill(daemon.pid, "SIGCONT")),
  };
  cleanup.add(() => relay.stop());
  await relay.start();
  return relay;
}
