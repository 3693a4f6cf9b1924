// SPDX-License-Identifier: Apache-2.0
//
// A stream of numbered datagrams that a pod sends back, to count what of it is lost while a test does something to the node.
import { type Cleanup, type Daemon, startDaemon } from "./daemon.ts";
import { inNetns, type Netns } from "./netns.ts";

/** Sends back what it gets. */
const ECHO = `
  const socket = require("node:dgram").createSocket("udp6");
  socket.on("message", (message, { port, address }) => socket.send(message, port, address));
  socket.bind(Number(process.argv[1]), "::", () => console.log("ready"));`;

/** Sends one each 5 ms until its stdin is closed, and tells which didn't come back within two seconds after the last. */
const SEND = `
  const [address, port] = process.argv.slice(1);
  const socket = require("node:dgram").createSocket(address.includes(":") ? "udp6" : "udp4");
  const away = new Set();
  const errors = [];
  let sent = 0;
  socket.on("message", (message) => {
    if (away.delete(Number(message)) && Number(message) === 0) console.log("begun");
  });
  socket.on("error", (error) => errors.push(error.message));
  const timer = setInterval(() => {
    away.add(sent);
    socket.send(String(sent++), Number(port), address, (error) => error && errors.push(error.message));
  }, 5);
  process.stdin.on("end", () => {
    clearInterval(timer);
    const until = Date.now() + 2000;
    const wait = setInterval(() => {
      if (away.size > 0 && Date.now() < until) return;
      clearInterval(wait);
      console.log(JSON.stringify({ sent, lost: [...away], errors }));
      socket.close();
    }, 10);
  }).resume();`;

export interface StreamEnd {
  readonly sent: number;
  /** Numbers of those that didn't come back. */
  readonly lost: readonly number[];
  readonly errors: readonly string[];
}

/** Begins a stream between two namespaces, to an address of the second, and returns what ends it. */
export async function startStream(
  from: Netns,
  to: Netns,
  address: string,
  port: number,
  cleanup: Cleanup,
): Promise<() => Promise<StreamEnd>> {
  const start = async (netns: Netns, script: string, ready: string, ...args: string[]): Promise<Daemon> => {
    const argv = inNetns(netns.path, process.execPath, "-e", script, ...args);
    const daemon = await startDaemon({ argv, ready: (output) => output.includes(ready) });
    cleanup.add(() => daemon.stop());
    return daemon;
  };
  await start(to, ECHO, "ready", `${port}`);
  const sender = await start(from, SEND, "begun", address, `${port}`);
  return async () => {
    await sender.stop("close stdin");
    return JSON.parse(sender.output().trim().split("\n").at(-1) ?? "");
  };
}
