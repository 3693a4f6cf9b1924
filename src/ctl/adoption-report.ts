// SPDX-License-Identifier: Apache-2.0
//
// The report of an adoption: what was meant, what became of it, and what undoing it needs. Root's alone, since it names pods.
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import type { AdoptionPlan, Conflict, NodeAddress, PlannedAttachment } from "./adoption-plan.ts";
import { CtlError } from "./errors.ts";
import type { Oddity, Reservation } from "./host-local.ts";

/** A sysctl that was changed. */
export interface SysctlChange {
  /** Its file under /proc/sys. */
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

export interface AdoptionReport {
  readonly version: 1;
  /** The adoption's ID, by which the daemon knows what it took over. */
  readonly id: string;
  /** host-local's directory. */
  readonly dataDir: string;
  readonly network: string;
  /** ISO 8601, as is the other; null while it is under way. */
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly adopted: readonly PlannedAttachment[];
  readonly gateways: readonly NodeAddress[];
  /** What the daemon refused. */
  readonly failed: readonly Conflict[];
  readonly already: readonly PlannedAttachment[];
  readonly conflicts: readonly Conflict[];
  readonly outside: readonly Reservation[];
  readonly oddities: readonly Oddity[];
  readonly sysctls: readonly SysctlChange[];
}

/** The report before anything was done: a crash half-way leaves the ID, and with it the way back. */
export function newReport(
  { already, conflicts, outside, oddities }: AdoptionPlan,
  facts: Pick<AdoptionReport, "id" | "dataDir" | "network" | "startedAt" | "sysctls">,
): AdoptionReport {
  const nothing = { finishedAt: null, adopted: [], gateways: [], failed: [] };
  return { version: 1, ...facts, ...nothing, already, conflicts, outside, oddities };
}

/** Writes it for the first time. @throws CtlError CTL_FILE also when the file exists: it may be the way back of another one */
export async function createReport(path: string, report: AdoptionReport): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeSynced(path, report);
  } catch (cause) {
    throw new CtlError("CTL_FILE", `the report can't be written: ${(cause as Error).message}`, cause);
  }
}

/** Writes it again, whole or not at all. @throws CtlError CTL_FILE */
export async function replaceReport(path: string, report: AdoptionReport): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  try {
    await writeSynced(temporary, report);
    await rename(temporary, path);
  } catch (cause) {
    throw new CtlError("CTL_FILE", `the report can't be written: ${(cause as Error).message}`, cause);
  }
}

async function writeSynced(path: string, report: AdoptionReport): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(report, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** @throws CtlError CTL_FILE */
export async function readReport(path: string): Promise<AdoptionReport> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new CtlError("CTL_FILE", `the report can't be read: ${(cause as Error).message}`, cause);
  }
  const report = parseReport(text);
  if (report === undefined) throw new CtlError("CTL_FILE", `${path} is no report of an adoption`);
  return report;
}

/** What a report must have for a way back; undefined when it hasn't. Pure. */
export function parseReport(text: string): AdoptionReport | undefined {
  try {
    const value = JSON.parse(text) as Partial<AdoptionReport>;
    const lists = [value.adopted, value.gateways, value.sysctls];
    const good = value.version === 1 && typeof value.id === "string" && lists.every(Array.isArray);
    return good && value.sysctls?.every(isProxyArp) ? (value as AdoptionReport) : undefined;
  } catch {
    // Not JSON: the caller says that it is no report.
    return undefined;
  }
}

/** What an adoption changes, and so the only thing that undoing one may change: a report is no list of files to write. */
function isProxyArp({ path, before, after }: SysctlChange): boolean {
  const known = /^\/proc\/sys\/net\/ipv4\/conf\/[^/]+\/proxy_arp$/.test(path) && !path.includes("/../");
  return known && /^[01]?$/.test(before) && after === "1";
}
