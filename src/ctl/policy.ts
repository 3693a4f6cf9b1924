// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl policy …`: which network policies this node enforces, and why a connection is allowed or denied.
import { type ExplainResponse, PolicyServiceDefinition } from "../gen/flatnet/policy/v1/policy.ts";
import { readOptions, reporting, withDaemon } from "./command.ts";
import { DEFAULT_SOCKET } from "./daemon-client.ts";
import { CtlError, exitStatus } from "./errors.ts";
import { explanationLines, parseTarget, policyLines, policyText } from "./policy-words.ts";
import type { CtlWorld } from "./world.ts";

const USAGE = `usage: flatnetctl policy COMMAND [options]

  explain SRC DST:PORT[/PROTOCOL]
          whether a connection may begin, and by which rule of which policy; SRC and DST are
          pods as namespace/name, or addresses ([ADDRESS]:PORT for IPv6). The protocol is tcp,
          udp, sctp, or, as DST/icmp, what has no ports
  list    the policies that select pods of this node, what their rules have let through and
          denied, and the pods

  --socket PATH   the daemon's socket (${DEFAULT_SOCKET})
  --json          one JSON document on stdout

Exit code: 0 done, 1 the daemon refused, 2 wrong options or no daemon.
Of explain: 0 it is allowed, 1 it is denied, 2 it could not be found out.
`;

const METHODS = PolicyServiceDefinition.methods;
const COMMON = { socket: "string", json: "boolean" } as const;

/** @returns the exit status */
export async function runPolicy(args: readonly string[], world: CtlWorld): Promise<number> {
  const [command, ...rest] = args;
  if (command === undefined || command === "help" || rest.includes("--help") || /^-(h|-help)$/.test(command)) {
    world.stdout.write(USAGE);
    return command === undefined ? 2 : 0;
  }
  return reporting(`policy ${command}`, world, async () => {
    switch (command) {
      case "explain":
        return await explain(rest, world);
      case "list":
        return await list(rest, world);
      default:
        world.stderr.write(`flatnetctl policy: there is no command ${JSON.stringify(command)}\n${USAGE}`);
        return 2;
    }
  });
}

function socketOf(values: Readonly<Record<string, string | boolean | undefined>>): string {
  return typeof values["socket"] === "string" ? values["socket"] : DEFAULT_SOCKET;
}

async function explain(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values, words } = readOptions(args, COMMON, ["SRC", "DST:PORT[/PROTOCOL]"]);
  const [source = "", target = ""] = words;
  const question = { source, ...parseTarget(target) };
  let response: ExplainResponse;
  try {
    response = await withDaemon(socketOf(values), (daemon) =>
      daemon.call(METHODS.explain, question, PolicyServiceDefinition),
    );
  } catch (error) {
    if (!(error instanceof CtlError) || exitStatus(error) === 2) throw error;
    // 1 is "denied".
    world.stderr.write(`flatnetctl policy explain: ${error.message}\n`);
    return 2;
  }
  const { explanations } = response;
  const lines =
    values["json"] === true
      ? [JSON.stringify({ version: 1, explanations }, undefined, 2)]
      : explanations.flatMap((one, i) => [...(i === 0 ? [] : [""]), ...explanationLines(one, question)]);
  for (const line of lines) world.stdout.write(`${line}\n`);
  return explanations.every(({ allowed }) => allowed) ? 0 : 1;
}

async function list(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values } = readOptions(args, COMMON);
  const state = await withDaemon(socketOf(values), (daemon) =>
    daemon.call(METHODS.listPolicies, {}, PolicyServiceDefinition),
  );
  const lines = values["json"] === true ? [policyText(state)] : policyLines(state);
  for (const line of lines) world.stdout.write(`${line}\n`);
  return 0;
}
