// SPDX-License-Identifier: Apache-2.0
//
// A run of the plugin for an attachment of the model, and the comparison of how it ended with what was expected.

import { type Finished, runToEnd } from "../daemon.ts";
import { type CniEnvironment, pluginCommand } from "../plugin.ts";
import { InvariantError } from "./command.ts";
import type { Attachment, Expected, Model, Wish } from "./model.ts";
import type { Reality } from "./reality.ts";

interface Call {
  readonly env?: CniEnvironment;
  readonly conf?: object;
  /** What is asked for; the attachment's own otherwise. */
  readonly wish?: Wish;
  /** Milliseconds after which it is killed. */
  readonly killAfterMs?: number;
}

export function callPlugin(
  reality: Reality,
  verb: string,
  attachment: Attachment | undefined,
  call: Call,
): Promise<Finished> {
  const { node } = reality;
  const env = {
    CNI_COMMAND: verb,
    CNI_PATH: "/opt/cni/bin",
    ...(attachment !== undefined && {
      CNI_CONTAINERID: attachment.containerId,
      CNI_IFNAME: attachment.ifname,
      CNI_NETNS: attachment.pod.path,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=tests;K8S_POD_NAME=${attachment.containerId}`,
    }),
    ...call.env,
  };
  const conf = node.conf({ connectWaitMs: 0, ...runtimeConfigOf(call.wish ?? attachment?.wish), ...call.conf });
  const timeoutMs = call.killAfterMs ?? 60_000;
  return runToEnd(pluginCommand(node.netns), { env, input: conf, timeoutMs });
}

function runtimeConfigOf(wish: Wish | undefined): object {
  if (wish === undefined) return {};
  const { portMappings, ips } = wish;
  return { runtimeConfig: { portMappings, ...(ips.length > 0 && { ips }) } };
}

/** How a verb ended, which is one of the ways expected; on success the verb's stdout. */
export function accept(
  model: Model,
  what: string,
  finished: Finished,
  expected: readonly Expected[],
): string | undefined {
  const { status, stdout, stderr } = finished;
  const wanted = expected.map((one) => (one === "success" ? one : `${one.code} ${one.says ?? ""}`)).join(" or ");
  const fail = (why: string) =>
    new InvariantError([`${what}: ${why}; expected: ${wanted}; it ended with ${status}: ${stdout}${stderr}`], model);
  if (status === 0) {
    if (!expected.includes("success")) throw fail("it succeeded");
    return stdout;
  }
  if (status !== 1) throw fail("it has a strange exit status");
  const { cniVersion, code, msg, details = "", ...more } = parseDocument(stdout, fail);
  if (cniVersion !== "1.1.0" || typeof msg !== "string" || msg === "" || typeof details !== "string") {
    throw fail("the error makes no sense");
  }
  if (Object.keys(more).length > 0) throw fail("the error has other keys");
  const fits = expected.some((one) => one !== "success" && one.code === code && (one.says?.test(details) ?? true));
  if (!fits) throw fail("it failed otherwise");
  return undefined;
}

function parseDocument(stdout: string, fail: (why: string) => Error): Record<string, unknown> {
  try {
    return JSON.parse(stdout);
  } catch {
    throw fail("stdout is not one JSON document");
  }
}

export function acceptSilence(model: Model, what: string, finished: Finished, expected: readonly Expected[]): string {
  const stdout = accept(model, what, finished, expected);
  if (stdout !== undefined && stdout !== "") throw new InvariantError([`${what} says ${stdout}`], model);
  return describe(finished);
}

export function describe({ status, stdout }: Finished): string {
  if (status === null) return "killed";
  if (status === 0) return "success";
  const { code, details } = JSON.parse(stdout);
  return `code ${code}, ${details}`;
}
