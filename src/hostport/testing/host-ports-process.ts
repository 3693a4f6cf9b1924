// SPDX-License-Identifier: Apache-2.0
//
// HostPorts as a process, for tests that run it in a network namespace of their own. Each line of stdin is a command, and is
// answered by one line: {"start":[records],"antiSpoof":true}, {"set":record}, {"clear":record}, {"forget":[addresses]},
// {"forgetNow":[addresses]}, {"check":record}.
// With the argument "old-kernel" the kernel is as one before Linux 6.8, which deletes no connections by a filter.
import { createInterface } from "node:readline";
import { deleteFlows } from "../../netlink/conntrack.ts";
import { NETLINK_NETFILTER, Netlink } from "../../netlink/event-loop.ts";
import { NetlinkError, type Request } from "../../netlink/message.ts";
import type { PortRecord } from "../entries.ts";
import { type FilterSocket, HostPorts } from "../host-ports.ts";

/** One line of input. */
export type Command =
  | { readonly start: readonly PortRecord[]; readonly antiSpoof: boolean }
  | { readonly set: PortRecord }
  | { readonly clear: PortRecord }
  | { readonly check: PortRecord }
  | { readonly forget: readonly string[] }
  | { readonly forgetNow: readonly string[] };

/** One line of output: the error's code and message where it failed, and what was told besides. */
export interface Answer {
  readonly error?: string;
  readonly told: readonly string[];
  /** What `check` found. */
  readonly problems?: readonly string[];
}

const netlink = Netlink.open(NETLINK_NETFILTER);
const socket: FilterSocket = process.argv.includes("old-kernel") ? asBefore68(netlink) : netlink;
let hostPorts: HostPorts | undefined;
let told: string[] = [];

async function run(command: Command): Promise<{ problems?: readonly string[] }> {
  if ("start" in command) {
    const onError = (error: unknown, what: string) => told.push(`${what}: ${(error as Error).message}`);
    hostPorts = await HostPorts.start(socket, command.start, { antiSpoof: command.antiSpoof, onError });
  } else if (hostPorts === undefined) throw new Error("start first");
  else if ("set" in command) await hostPorts.set(command.set);
  else if ("clear" in command) await hostPorts.clear(command.clear);
  else if ("check" in command) return { problems: await hostPorts.check(command.check) };
  else if ("forgetNow" in command) return await hostPorts.forgetNow(command.forgetNow, false).then(() => ({}));
  else hostPorts.forget(command.forget);
  await hostPorts.idle();
  return {};
}

function asBefore68(kernel: Netlink): FilterSocket {
  const EINVAL = 22;
  const { what } = deleteFlows({ family: 4, original: { protocol: 17 } });
  return {
    transaction: (...args) => kernel.transaction(...args),
    dump: (request) => kernel.dump(request),
    submit: async (requests) => {
      const refused = (request: Request) => ({
        request,
        answers: [],
        error: NetlinkError.refused(request.what, EINVAL, ""),
      });
      const replies = requests.map((one) => (one.what === what ? refused(one) : kernel.submit([one])));
      return (await Promise.all(replies)).flat();
    },
  };
}

process.stdout.write("ready\n");
for await (const line of createInterface({ input: process.stdin })) {
  let error: string | undefined;
  let found = {};
  try {
    found = await run(JSON.parse(line) as Command);
  } catch (cause) {
    error = `${(cause as { code?: string }).code}: ${(cause as Error).message}`;
  }
  process.stdout.write(`${JSON.stringify({ ...(error === undefined ? {} : { error }), ...found, told })}\n`);
  told = [];
}
netlink.close();
