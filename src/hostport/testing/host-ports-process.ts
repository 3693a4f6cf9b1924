// SPDX-License-Identifier: Apache-2.0
//
// HostPorts as a process, for tests that run it in a network namespace of their own. Each line of stdin is a command, and is
// answered by one line: {"start":[records],"antiSpoof":true}, {"set":record}, {"clear":record}, {"forget":[addresses]}.
import { createInterface } from "node:readline";
import { NETLINK_NETFILTER, Netlink } from "../../netlink/event-loop.ts";
import type { PortRecord } from "../entries.ts";
import { HostPorts } from "../host-ports.ts";

/** One line of input. */
export type Command =
  | { readonly start: readonly PortRecord[]; readonly antiSpoof: boolean }
  | { readonly set: PortRecord }
  | { readonly clear: PortRecord }
  | { readonly forget: readonly string[] };

/** One line of output: the error's code and message where it failed, and what was told besides. */
export interface Answer {
  readonly error?: string;
  readonly told: readonly string[];
}

const netlink = Netlink.open(NETLINK_NETFILTER);
let hostPorts: HostPorts | undefined;
let told: string[] = [];

async function run(command: Command): Promise<void> {
  if ("start" in command) {
    const onError = (error: unknown, what: string) => told.push(`${what}: ${(error as Error).message}`);
    hostPorts = await HostPorts.start(netlink, command.start, { antiSpoof: command.antiSpoof, onError });
  } else if (hostPorts === undefined) throw new Error("start first");
  else if ("set" in command) await hostPorts.set(command.set);
  else if ("clear" in command) await hostPorts.clear(command.clear);
  else hostPorts.forget(command.forget);
  await hostPorts.idle();
}

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  let error: string | undefined;
  try {
    await run(JSON.parse(line) as Command);
  } catch (cause) {
    error = `${(cause as { code?: string }).code}: ${(cause as Error).message}`;
  }
  process.stdout.write(`${JSON.stringify({ ...(error === undefined ? {} : { error }), told })}\n`);
  told = [];
}
netlink.close();
