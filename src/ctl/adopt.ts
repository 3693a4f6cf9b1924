// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl adopt …`: takes over what another IPAM plugin gave out on this node, and gives it back.
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { IpamServiceDefinition } from "../gen/flatnet/ipam/v1/ipam.ts";
import { parsePrefix } from "../net/prefix.ts";
import { type AdoptionPlan, type Conflict, type PlannedAttachment, planAdoption } from "./adoption-plan.ts";
import {
  type AdoptionReport,
  createReport,
  newReport,
  readReport,
  replaceReport,
  type SysctlChange,
} from "./adoption-report.ts";
import { readOptions, reporting, withDaemon } from "./command.ts";
import { type DaemonClient, DEFAULT_SOCKET } from "./daemon-client.ts";
import { CtlError } from "./errors.ts";
import { readHostLocal } from "./host-local.ts";
import { type CachedAttachment, readCachedAttachment } from "./libcni-cache.ts";
import { readNodeAddresses } from "./node-addresses.ts";
import { formatTable, plural } from "./words.ts";
import type { CtlWorld } from "./world.ts";

/** Where reports are put unless another place is named. */
const REPORTS = "/var/lib/flatnet";

const USAGE = `usage: flatnetctl adopt host-local --data-dir DIR [options]
       flatnetctl adopt undo REPORT [--socket PATH]

Takes over the addresses that kubenet, flannel, kindnet, bridge or ptp gave out on this node by
host-local, with their containers: running pods keep them, and nobody else gets them. Shows what
it would do, and does it with --yes. host-local's files stay as they are.

  --data-dir DIR    host-local's directory of the old network: /var/lib/cni/networks/NAME
  --network NAME    name of flatnet's network, which DEL will come with (flatnet)
  --ifname NAME     interface of attachments whose file doesn't say it (eth0)
  --yes             do it
  --dry-run         only show it, which is what happens without --yes
  --report FILE     where to write what was done (${REPORTS}/adoption-ID.json)
  --cache-dir DIR   where libcni keeps which pod a container is of (/var/lib/cni)
  --socket PATH     the daemon's socket (${DEFAULT_SOCKET})

undo gives back exactly what the adoption of that report took over and still is as it left it.

Exit code: 0 done, or nothing is in the way; 1 something can't be taken over; 2 wrong options or
no daemon.
`;

const METHODS = IpamServiceDefinition.methods;

const OPTIONS = {
  "data-dir": "string",
  network: "string",
  ifname: "string",
  yes: "boolean",
  "dry-run": "boolean",
  report: "string",
  "cache-dir": "string",
  socket: "string",
} as const;

/** @returns the exit status */
export async function runAdopt(args: readonly string[], world: CtlWorld): Promise<number> {
  const [command, ...rest] = args;
  if (command === undefined || command === "help" || args.includes("--help") || args.includes("-h")) {
    world.stdout.write(USAGE);
    return command === undefined ? 2 : 0;
  }
  return reporting(`adopt ${command}`, world, async () => {
    switch (command) {
      case "host-local":
        return await adoptHostLocal(rest, world);
      case "undo":
        return await undo(rest, world);
      default:
        world.stderr.write(`flatnetctl adopt: there is no command ${JSON.stringify(command)}\n${USAGE}`);
        return 2;
    }
  });
}

async function adoptHostLocal(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values } = readOptions(args, OPTIONS);
  const text = (name: keyof typeof OPTIONS, otherwise: string): string => {
    const value = values[name];
    return typeof value === "string" && value !== "" ? value : otherwise;
  };
  if (text("data-dir", "") === "") throw new CtlError("CTL_USAGE", "--data-dir is missing");
  if (values["yes"] === true && values["dry-run"] === true) {
    throw new CtlError("CTL_USAGE", "--yes and --dry-run contradict each other");
  }
  const dataDir = resolve(text("data-dir", ""));
  const network = text("network", "flatnet");
  return await withDaemon(text("socket", DEFAULT_SOCKET), async (daemon) => {
    const plan = await lookAround(daemon, dataDir, network, text("ifname", "eth0"), text("cache-dir", "/var/lib/cni"));
    for (const line of planLines(plan, dataDir, network)) world.stdout.write(`${line}\n`);
    if (values["yes"] !== true) {
      world.stdout.write("\nNothing has been done; --yes does it.\n");
      return plan.conflicts.length === 0 ? 0 : 1;
    }
    const id = randomUUID();
    const path = resolve(text("report", `${REPORTS}/adoption-${id}.json`));
    const report = await carryOut(daemon, plan, path, { id, dataDir, network }, world);
    for (const line of outcomeLines(report, path)) world.stdout.write(`${line}\n`);
    return report.conflicts.length === 0 && report.failed.length === 0 ? 0 : 1;
  });
}

/** Reads what there is on this node, and plans. */
async function lookAround(
  daemon: DaemonClient,
  dataDir: string,
  network: string,
  ifname: string,
  cacheDir: string,
): Promise<AdoptionPlan> {
  const { reservations, oddities } = await readHostLocal(dataDir, ifname);
  const cached = new Map<string, CachedAttachment>();
  for (const one of reservations) {
    const known = await readCachedAttachment(cacheDir, basename(dataDir), one);
    cached.set(`${one.containerId}/${one.ifname}`, known);
  }
  const { subnets, allocations } = await daemon.call(METHODS.listAllocations, {});
  return planAdoption({
    network,
    reservations,
    oddities,
    cached,
    subnets: subnets.map(({ cidr }) => parsePrefix(cidr)),
    allocations,
    nodeAddresses: readNodeAddresses(),
  });
}

/** Does what is planned. One that fails stops no other; the report knows of each. */
async function carryOut(
  daemon: DaemonClient,
  plan: AdoptionPlan,
  path: string,
  facts: Pick<AdoptionReport, "id" | "dataDir" | "network">,
  world: CtlWorld,
): Promise<AdoptionReport> {
  const now = () => new Date(world.now()).toISOString();
  const sysctls = await planSysctls(plan.bridges);
  const report = newReport(plan, { ...facts, startedAt: now(), sysctls });
  // Nothing has this ID yet. A daemon that is too old says so now, before anything is done.
  await daemon.call(METHODS.undoAdoption, { id: facts.id });
  await createReport(path, report);
  try {
    const outcome = await takeOver(daemon, plan, facts);
    for (const { path: file, after } of sysctls) await writeSysctl(file, after);
    const done = { ...report, ...outcome, finishedAt: now() };
    await replaceReport(path, done);
    return done;
  } catch (error) {
    if (!(error instanceof CtlError)) throw error;
    const wayBack = `\`flatnetctl adopt undo ${path}\` takes back what was done until then`;
    throw new CtlError(error.code, `${error.message}; ${wayBack}`, error);
  }
}

/** Tells the daemon. */
async function takeOver(
  daemon: DaemonClient,
  plan: AdoptionPlan,
  { id, dataDir, network }: Pick<AdoptionReport, "id" | "dataDir" | "network">,
): Promise<Pick<AdoptionReport, "adopted" | "gateways" | "failed">> {
  const adoption = { id, source: `host-local ${dataDir}` };
  const adopted: PlannedAttachment[] = [];
  const gateways: (typeof plan.gateways)[number][] = [];
  const failed: Conflict[] = [];
  // Of the node first: one of them in a pod would break all the old pods.
  for (const gateway of plan.gateways) {
    const attachment = { network, containerId: "", ifname: "" };
    const request = { attachment, pod: undefined, netns: "", addresses: [gateway.address], adoption };
    const why = await refusalOf(daemon.call(METHODS.adopt, request));
    if (why === undefined) gateways.push(gateway);
    else failed.push({ containerId: "", ifname: gateway.ifname, addresses: [gateway.address], why });
  }
  for (const planned of plan.attachments) {
    const { attachment, pod, netns, addresses } = planned;
    const request = { attachment, pod, netns, addresses: [...addresses], adoption };
    const why = await refusalOf(daemon.call(METHODS.adopt, request));
    if (why === undefined) adopted.push(planned);
    else failed.push({ ...attachment, addresses, why });
  }
  return { adopted, gateways, failed };
}

/** Why the daemon doesn't take this one. A daemon that is gone or too old ends everything. */
async function refusalOf(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof CtlError && error.code === "CTL_REFUSED") return error.message;
    throw error;
  }
}

/**
 * Pods behind a bridge ask for every address of the subnet by ARP, also for those of new pods, which aren't behind it: the
 * node answers in their place (ip-sysctl.rst, proxy_arp).
 */
async function planSysctls(bridges: readonly string[]): Promise<SysctlChange[]> {
  const changes: SysctlChange[] = [];
  for (const bridge of bridges) {
    const path = `/proc/sys/net/ipv4/conf/${bridge}/proxy_arp`;
    const before = (await readSysctl(path)) ?? "";
    if (before !== "1") changes.push({ path, before, after: "1" });
  }
  return changes;
}

async function readSysctl(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trim();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw new CtlError("CTL_FILE", `${path} can't be read: ${(cause as Error).message}`, cause);
  }
}

async function writeSysctl(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value);
  } catch (cause) {
    throw new CtlError("CTL_FILE", `${path} can't be written: ${(cause as Error).message}`, cause);
  }
}

/** What `adopt host-local` says of its plan. Pure. */
export function planLines(plan: AdoptionPlan, dataDir: string, network: string): string[] {
  const rows = [
    ...plan.gateways.map(({ address, ifname }) => ["take over", address, `the node's own, on ${ifname}`, "-", ""]),
    ...plan.attachments.map((one) => attachmentRow("take over", one)),
    ...plan.already.map((one) => attachmentRow("has it already", one)),
    ...plan.conflicts.map(({ addresses, containerId, why }) => [
      "CONFLICT",
      addresses.join(","),
      "-",
      containerId.slice(0, 12) || "-",
      why,
    ]),
    ...plan.outside.map(({ address, containerId }) => [
      "leave alone",
      address,
      "-",
      containerId.slice(0, 12),
      "in none of this node's subnets",
    ]),
    ...plan.oddities.map(({ file, why }) => ["leave alone", file, "-", "-", why]),
  ];
  const head = `${dataDir}, for network ${network}:`;
  if (rows.length === 0) return [head, "", "  Nobody has an address."];
  const table = formatTable([["", "ADDRESS", "POD", "CONTAINER", "NOTE"], ...rows]).map((line) => `  ${line}`);
  const sysctls = plan.bridges.map(
    (bridge) =>
      `The node is to answer ARP on ${bridge} for new pods, which those behind it believe to be on it (proxy_arp).`,
  );
  return [head, "", ...table, ...(sysctls.length === 0 ? [] : ["", ...sysctls])];
}

function attachmentRow(what: string, { attachment, pod, addresses, hasHostPorts }: PlannedAttachment): string[] {
  const name = pod === undefined ? "-" : `${pod.namespace}/${pod.name}`;
  const note = hasHostPorts ? "hostPorts stay the old plugin's: restart it soon" : "";
  return [what, addresses.join(","), name, attachment.containerId.slice(0, 12), note];
}

/** What it says when it is done. Pure. */
export function outcomeLines({ adopted, gateways, failed }: AdoptionReport, path: string): string[] {
  return [
    "",
    `Taken over: ${plural(adopted.length, "attachment", "attachments")} and ${plural(gateways.length, "address", "addresses")} of the node.`,
    ...failed.map(({ addresses, why }) => `REFUSED ${addresses.join(",")}: ${why}`),
    `The report is ${path}; \`flatnetctl adopt undo\` takes it.`,
  ];
}

async function undo(args: readonly string[], world: CtlWorld): Promise<number> {
  const { values, words } = readOptions(args, { socket: "string" }, ["the report"]);
  const report = await readReport(words[0] as string);
  const socket = typeof values["socket"] === "string" ? values["socket"] : DEFAULT_SOCKET;
  const { released } = await withDaemon(socket, (daemon) => daemon.call(METHODS.undoAdoption, { id: report.id }));
  for (const { path, before, after } of report.sysctls) {
    // Gone with its bridge, or somebody has set it since: neither is ours to mend.
    if ((await readSysctl(path)) === after) await writeSysctl(path, before);
  }
  const given = new Set(released.flatMap(({ addresses }) => addresses));
  const ended = report.adopted.flatMap(({ addresses }) => addresses).filter((address) => !given.has(address));
  world.stdout.write(`Given back: ${plural(given.size, "address", "addresses")}.\n`);
  if (ended.length > 0) {
    world.stdout.write(
      `Ended since, or given back before: ${ended.join(", ")}.\n` +
        `host-local may still have their files in ${report.dataDir}; it never frees those of containers that are gone.\n`,
    );
  }
  return 0;
}
