// SPDX-License-Identifier: Apache-2.0
//
// Conversations over TCP that go on while a test does something to the network under them.

import { Cleanup, type Daemon, startDaemon, waitFor } from "./daemon.ts";
import { inNetns, type Netns } from "./netns.ts";

/** Says back what it hears, at every address of its namespace. */
const ECHO = `
  const [port] = process.argv.slice(1);
  const server = require("node:net").createServer((socket) => socket.on("error", () => {}).pipe(socket));
  server.listen(Number(port), "::", () => console.log("ready"));`;

/**
 * Says a number, waits for its echo, prints it, says the next one. Until the first echo it tries again with a new connection: one that
 * was begun while an address was still tentative keeps the source that it was given then, and may never be answered.
 */
const TALK = `
  const [address, port] = process.argv.slice(1);
  const begin = () => {
    const socket = require("node:net").connect(Number(port), address);
    let n = 0;
    const again = setTimeout(() => {
      socket.removeAllListeners("close").destroy();
      begin();
    }, 3000);
    socket.setEncoding("utf8").on("data", () => {
      clearTimeout(again);
      console.log("echo");
      setTimeout(() => socket.write(++n + "\\n"), 10);
    });
    socket.on("error", (error) => console.log(error.message));
    socket.on("close", () => {
      console.log("closed");
      process.exit(1);
    });
    socket.write("0\\n");
  };
  begin();`;

/** An echo server in a namespace, until `cleanup`. */
export async function serveEcho(netns: Netns, port: number, cleanup: Cleanup): Promise<void> {
  const argv = inNetns(netns.path, process.execPath, "-e", ECHO, `${port}`);
  const server = await startDaemon({ argv, ready: (output) => output.includes("ready") });
  cleanup.add(() => server.stop());
}

/** A conversation that has begun, and goes on until it is stopped or `cleanup`. */
export async function talk(from: Netns, address: string, port: number, cleanup: Cleanup): Promise<Daemon> {
  const argv = inNetns(from.path, process.execPath, "-e", TALK, address, `${port}`);
  const talker = await startDaemon({ argv, ready: (output) => output.includes("echo") });
  cleanup.add(() => talker.stop());
  return talker;
}

/** Waits until the conversation that was begun has gone on from here; one that was broken off never does. */
export async function goesOn(talker: Daemon): Promise<void> {
  const before = talker.output().length;
  await waitFor(() => talker.output().slice(before).split("echo").length > 2);
}

/** Waits until a conversation has begun, and ends it. */
export async function reachEcho(from: Netns, address: string, port: number): Promise<void> {
  const cleanup = new Cleanup();
  try {
    await talk(from, address, port, cleanup);
  } finally {
    await cleanup.run();
  }
}
