// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl ipam …`: what the daemon on this node knows of its addresses.
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CheckConsistencyResponse,
  type Finding,
  type GetHistoryRequest,
  IpamServiceDefinition,
  type ListAllocationsResponse,
  type ListRestingResponse,
  type PoolCounts,
  type RestingAddress,
  type Tenure,
} from "../gen/flatnet/ipam/v1/ipam.ts";
import { parseAddress } from "../net/address.ts";
import { indexOf, parsePrefix } from "../net/prefix.ts";
import { readOptions, reporting, withDaemon } from "./command.ts";
import { type DaemonClient, DEFAULT_SOCKET } from "./daemon-client.ts";
import { CtlError } from "./errors.ts";
import { findingLines, findingsDocument } from "./findings.ts";
import { holdersTable, toJson } from "./holders.ts";
import { listSandboxes } from "./runtime.ts";
import { compareWithRuntime } from "./runtime-findings.ts";
import { drawSubnet, legend, namespaceLetters } from "./subnet-map.ts";
import { tenureDocument, tenuresTable } from "./tenures.ts";
import { formatTime, parseTime } from "./times.ts";
import { formatCount, plural } from "./words.ts";
import type { CtlWorld } from "./world.ts";

const USAGE = `usage: flatnetctl ipam COMMAND [options]

  show    each subnet with its counts and a picture of it, and who has which address
  list    who has which address, a line each
  history [ADDRESS] [--at TIME]
          who had the address, or any, and when; with --at, at that time ("14:03",
          "2026-11-23 14:03"), in this machine's zone
  check [--runtime-endpoint PATH]
          whether the daemon's records and the kernel's links and routes agree, and
          the pods of the container runtime on this socket (CRI)

  --socket PATH   the daemon's socket (${DEFAULT_SOCKET})
  --json          one JSON document on stdout

Exit code: 0 done, 1 the daemon refused, 2 wrong options or no daemon.
Of check: 0 all is well, 1 something differs, 2 it could not be checked.
`;

/** The largest number that the daemon counts to. */
const MOST_COUNTED = 0xffff_ffff;

const METHODS = IpamServiceDefinition.methods;
const COMMON = { socket: "string", json: "boolean" } as const;

/** @returns the exit status */
export async function runIpam(args: readonly string[], world: CtlWorld): Promise<number> {
  const [command, ...rest] = args;
  if (command === undefined || command === "help" || rest.includes("--help") || /^-(h|-help)$/.test(command)) {
    world.stdout.write(USAGE);
    return command === undefined ? 2 : 0;
  }
  return reporting(`ipam ${command}`, world, async () => {
    switch (command) {
      case "show":
        return await show(rest, world);
      case "list":
        return await list(rest, world);
      case "history":
        return await history(rest, world);
      case "check":
        return await check(rest, world);
      default:
        world.stderr.write(`flatnetctl ipam: there is no command ${JSON.stringify(command)}\n${USAGE}`);
        return 2;
    }
  });
}

function socketOf(values: Readonly<Record<string, string | boolean | undefined>>): string {
  return typeof values["socket"] === "string" ? values["socket"] : DEFAULT_SOCKET;
}

async function show(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values } = readOptions(args, COMMON);
  const { state, resting } = await withDaemon(socketOf(values), async (daemon) => ({
    state: await daemon.call(METHODS.listAllocations, {}),
    resting: await listResting(daemon),
  }));
  if (values["json"] === true) {
    const document = {
      ...stateDocument(state),
      resting: (resting?.resting ?? []).map(restingDocument),
      keptBack: resting?.keptBack ?? [],
    };
    world.stdout.write(`${JSON.stringify(document, undefined, 2)}\n`);
  } else {
    for (const line of showLines(state, resting, world.now(), widthOf(world))) world.stdout.write(`${line}\n`);
  }
  return 0;
}

async function list(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values } = readOptions(args, COMMON);
  const state = await withDaemon(socketOf(values), (daemon) => daemon.call(METHODS.listAllocations, {}));
  const lines =
    values["json"] === true
      ? [JSON.stringify(stateDocument(state), undefined, 2)]
      : holdersTable(state.allocations, world.now(), widthOf(world));
  for (const line of lines) world.stdout.write(`${line}\n`);
  return 0;
}

/** Most that the daemon tells at once. */
const HISTORY_PAGE = 1000;

async function history(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values, words } = readOptions(args, { ...COMMON, at: "string" }, ["[ADDRESS]"]);
  const at = typeof values["at"] === "string" ? BigInt(parseTime(values["at"], world.now())) : undefined;
  const query = { address: words[0] ?? "", fromMs: at ?? 0n, toMs: at ?? 0n, pageSize: HISTORY_PAGE };
  const tenures = await withDaemon(socketOf(values), (daemon) => readHistory(daemon, query));
  const lines =
    values["json"] === true
      ? [JSON.stringify({ version: 1, tenures: tenures.map(tenureDocument) }, undefined, 2)]
      : tenuresTable(tenures, widthOf(world));
  for (const line of lines) world.stdout.write(`${line}\n`);
  if (lines.length === 0) world.stderr.write(nobody(words[0], at));
  return 0;
}

async function readHistory(daemon: DaemonClient, query: Omit<GetHistoryRequest, "pageToken">): Promise<Tenure[]> {
  const tenures: Tenure[] = [];
  let pageToken = "";
  do {
    const page = await daemon.call(METHODS.getHistory, { ...query, pageToken });
    tenures.push(...page.tenures);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return tenures;
}

function nobody(address: string | undefined, at: bigint | undefined): string {
  const whom = address === undefined ? "Nobody had an address" : `Nobody had ${address}`;
  return `${whom}${at === undefined ? "" : ` at ${formatTime(Number(at))}`}, as far as the daemon remembers.\n`;
}

async function check(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values } = readOptions(args, { ...COMMON, "runtime-endpoint": "string" });
  const endpoint = values["runtime-endpoint"];
  let response: CheckConsistencyResponse;
  try {
    response = await withDaemon(socketOf(values), async (daemon) => {
      const kernel = await daemon.call(METHODS.checkConsistency, {});
      if (typeof endpoint !== "string") return kernel;
      return { ...kernel, findings: [...kernel.findings, ...(await checkRuntime(daemon, endpoint))] };
    });
  } catch (error) {
    if (!(error instanceof CtlError)) throw error;
    // 1 is for what differs.
    world.stderr.write(`flatnetctl ipam check: ${error.message}\n`);
    return 2;
  }
  const lines =
    values["json"] === true ? [JSON.stringify(findingsDocument(response), undefined, 2)] : findingLines(response);
  for (const line of lines) world.stdout.write(`${line}\n`);
  return response.findings.length === 0 ? 0 : 1;
}

/** How long an ADD or a DEL may be under way, in milliseconds, before what is between two of its steps counts. */
const UNDER_WAY_MS = 2_000;

/** What differs at two looks: a pod that just comes or goes differs at one of them. */
async function checkRuntime(daemon: DaemonClient, endpoint: string): Promise<Finding[]> {
  const look = async () => {
    const { allocations } = await daemon.call(METHODS.listAllocations, {});
    return compareWithRuntime(allocations, await listSandboxes(endpoint));
  };
  const first = await look();
  if (first.length === 0) return [];
  await sleep(UNDER_WAY_MS);
  const before = new Set(first.map(({ message }) => message));
  return (await look()).filter(({ message }) => before.has(message));
}

/** A terminal's columns; a file or a pipe takes any width. */
function widthOf({ stdout }: CtlWorld): number | undefined {
  return stdout.isTTY === true && stdout.columns ? stdout.columns : undefined;
}

/** Undefined from a daemon that can't tell. */
async function listResting(daemon: DaemonClient): Promise<ListRestingResponse | undefined> {
  try {
    return await daemon.call(METHODS.listResting, {});
  } catch (error) {
    if (error instanceof CtlError && error.code === "CTL_OLD_DAEMON") return undefined;
    throw error;
  }
}

/** What `show` prints. Pure. `resting` is undefined when it isn't known. */
export function showLines(
  { subnets, allocations }: ListAllocationsResponse,
  resting: ListRestingResponse | undefined,
  nowMs: number,
  width?: number,
): string[] {
  const letters = namespaceLetters(allocations);
  const lines: string[] = [];
  const prefixes = subnets.map(({ cidr }) => parsePrefix(cidr));
  for (const [i, { cidr, draining, pools, reserved: _, ...counts }] of subnets.entries()) {
    const sight = {
      prefix: prefixes[i] as (typeof prefixes)[number],
      allocations,
      resting: [],
      keptBack: [],
      ...resting,
    };
    lines.push(`${cidr}${draining ? ", draining" : ""}: ${countsText(counts)}`);
    // A subnet without pools of its own is all the default one's.
    for (const { name, ...ofPool } of pools.length > 1 ? pools : [])
      lines.push(`  pool ${name}: ${countsText(ofPool)}`);
    lines.push("");
    lines.push(...drawSubnet(sight, letters).map((line) => `  ${line}`), "");
    lines.push(...legend(sight, letters).map(([symbol, text]) => `  ${symbol}  ${text}`), "");
    if (resting === undefined) {
      lines.push(
        "  The daemon is older than this flatnetctl: which addresses rest or are kept back is not in the picture.",
        "",
      );
    }
  }
  const outside = allocations
    .flatMap(({ addresses }) => addresses)
    .filter((address) => !prefixes.some((prefix) => indexOf(prefix, parseAddress(address)) !== undefined));
  if (outside.length > 0) {
    lines.push(`${plural(outside.length, "address is", "addresses are")} of no subnet that this node has now.`, "");
  }
  const table = holdersTable(allocations, nowMs, width);
  return [...lines, ...(table.length === 0 ? ["Nobody has an address."] : table)];
}

function countsText({ capacity, used, cooling, free, sticky }: Omit<PoolCounts, "name">): string {
  const kept = sticky === 0 ? [] : [`${formatCount(sticky)} kept for their owner`];
  const text = [`${formatCount(used)} used`, `${formatCount(cooling - sticky)} resting`, ...kept];
  // The daemon counts no further.
  if (free === MOST_COUNTED) return `${text.join(", ")}, over ${formatCount(MOST_COUNTED - 1)} free`;
  return `${[...text, `${formatCount(free)} free`].join(", ")} of ${plural(capacity, "address", "addresses")}`;
}

function stateDocument({ subnets, allocations }: ListAllocationsResponse): object {
  return { version: 1, subnets, allocations: allocations.map(toJson) };
}

function restingDocument({ address, releasedAtMs, restsUntilMs }: RestingAddress): object {
  const time = (ms: bigint) => new Date(Number(ms)).toISOString();
  return { address, releasedAt: time(releasedAtMs), restsUntil: time(restsUntilMs) };
}
