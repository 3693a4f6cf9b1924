// SPDX-License-Identifier: Apache-2.0
//
// The verbs as the runtime runs them, and what it learns from how they end.

import type { Finished } from "../helpers/daemon.ts";
import { addressesOf, type CniResult } from "../helpers/plugin.ts";
import { type Attachment, keyOf } from "./ledger.ts";
import type { TortureRun } from "./run.ts";

/** How a plugin is to be ended before its time. */
export interface Doom {
  readonly fault?: string | undefined;
  readonly killAfterMs?: number | undefined;
}

/** Codes by which a verb may refuse while everything is disturbed, beside 11, "try again". */
const ALSO: Record<string, readonly number[]> = {
  STATUS: [50, 51],
  // Some of what it found could not be given back, by a daemon that is being killed.
  GC: [100],
};

/** While nobody is there a verb is to say so soon, rather than wait for what is being killed. */
const WAITS = { connectWaitMs: 2_000, timeoutMs: 8_000 };

interface Outcome {
  /** undefined: killed; 0: success; else the CNI code. */
  readonly code: number | undefined;
  readonly finished: Finished;
}

/** ADD of an attachment, whatever it was. @returns whether it succeeded */
export async function add(run: TortureRun, attachment: Attachment, doom: Doom = {}): Promise<boolean> {
  const { ledger, violations } = run;
  const held = attachment.standing === "held";
  const name = held ? "ADD of what is up" : "ADD";
  // 101: it is up, and only its result was lost, or another container's interface is in the way.
  const { code, finished } = await call(run, name, "ADD", attachment, { doom, also: [101] });
  if (held) {
    if (code === 0) violations.push(`a second ADD of ${keyOf(attachment)}, which is up, succeeded`);
    return false;
  }
  if (code !== 0) {
    ledger.doubt(attachment);
    return false;
  }
  const result: CniResult = JSON.parse(finished.stdout);
  violations.push(...ledger.acknowledge(attachment, addressesOf(result), result));
  return true;
}

/** DEL of an attachment. @returns whether it succeeded, and nothing need be known of it any more */
export async function del(run: TortureRun, attachment: Attachment, doom: Doom = {}): Promise<boolean> {
  const name = attachment.standing === "none" ? "DEL of what is not there" : "DEL";
  run.ledger.doubt(attachment);
  const { code } = await call(run, name, "DEL", attachment, { doom });
  if (code !== 0) return false;
  attachment.standing = "none";
  return true;
}

/** CHECK of an attachment that is held: it is as ADD made it, unless somebody was at it. */
export async function check(run: TortureRun, attachment: Attachment, doom: Doom = {}): Promise<boolean> {
  const conf = { prevResult: attachment.result };
  const also = attachment.tampered ? [102] : [];
  return (await call(run, "CHECK", "CHECK", attachment, { doom, conf, also })).code === 0;
}

/** GC with all that may be alive as valid. @returns whether it succeeded */
export async function collect(run: TortureRun, valid: object[], doom: Doom = {}): Promise<boolean> {
  const conf = { "cni.dev/valid-attachments": valid };
  return (await call(run, "GC", "GC", undefined, { doom, conf })).code === 0;
}

export async function status(run: TortureRun, doom: Doom = {}): Promise<void> {
  await call(run, "STATUS", "STATUS", undefined, { doom });
}

async function call(
  run: TortureRun,
  name: string,
  verb: string,
  attachment: Attachment | undefined,
  { doom, conf = {}, also = [] }: { doom: Doom; conf?: object; also?: readonly number[] },
): Promise<Outcome> {
  const { node, counts, log, violations } = run;
  const env = { CNI_COMMAND: verb, ...(attachment === undefined ? {} : environmentOf(attachment)) };
  const runtimeConfig = attachment === undefined ? {} : { runtimeConfig: { portMappings: attachment.portMappings } };
  const what = attachment === undefined ? name : `${name} ${keyOf(attachment)}`;
  const begun = performance.now();
  const finished = await node.plugin({
    ...{ env, fault: doom.fault, killAfterMs: doom.killAfterMs },
    conf: { ...WAITS, ...runtimeConfig, ...conf },
  });
  const code = codeOf(finished);
  const doomed = doom.fault !== undefined || doom.killAfterMs !== undefined;
  if (code === undefined && !doomed) violations.push(`${what} never ended`);
  if (typeof code === "string") {
    violations.push(`${what} ended strangely: ${code}`);
  } else if (code !== undefined && code !== 0 && ![11, ...also, ...(ALSO[verb] ?? [])].includes(code)) {
    violations.push(`${what} failed: ${finished.stdout}${finished.stderr}`);
  }
  if (verb === "DEL" && /not found/i.test(finished.stdout)) violations.push(`${what} says ${finished.stdout}`);
  counts.verb(name, code === undefined ? "killed" : code === 0 ? "succeeded" : "refused");
  const ended = code === undefined ? "killed" : code === 0 ? brief(finished) : `${finished.stdout.trim()}`;
  const armed = doom.fault ?? (doom.killAfterMs === undefined ? "" : `kill after ${doom.killAfterMs} ms`);
  log.push(`${begun.toFixed(0)}-${performance.now().toFixed(0)} ms ${what} (${armed}): ${ended}`);
  return { code: typeof code === "string" ? 1 : code, finished };
}

function environmentOf({ containerId, ifname, netns }: Attachment): Record<string, string> {
  return {
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifname,
    CNI_NETNS: netns,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=torture;K8S_POD_NAME=${containerId}`,
  };
}

/** Undefined when it was killed, 0 for success, else the CNI code; text for what no plugin may do. */
function codeOf({ status: exit, stdout, stderr }: Finished): number | string | undefined {
  if (exit === null) return undefined;
  if (exit === 0) return 0;
  try {
    const { code } = JSON.parse(stdout);
    if (exit === 1 && typeof code === "number") return code;
  } catch {
    // Said below, with what it printed.
  }
  return `exit status ${exit}, ${stdout}${stderr}`;
}

function brief({ stdout, stderr }: Finished): string {
  if (stdout === "") return `success ${stderr.trim()}`;
  const { ips } = JSON.parse(stdout);
  return `success ${(ips as { address: string }[]).map(({ address }) => address).join(" ")}`;
}
