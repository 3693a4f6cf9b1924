// SPDX-License-Identifier: Apache-2.0
//
// What a runtime, a crash or somebody at a keyboard does to a node, as fast-check's commands. Each runs the real programs,
// compares how they ended with what the model expects, and then compares everything that is to be seen.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { hostLinkName } from "../../../src/net/names.ts";
import { type Finished, runToEnd, waitFor } from "../daemon.ts";
import { type CniEnvironment, pluginCommand } from "../plugin.ts";
import { differences, learn } from "./differences.ts";
import {
  type Attachment,
  type Expected,
  keyOf,
  type Model,
  type ModelPod,
  type Removable,
  type Wish,
} from "./model.ts";
import type { Reality } from "./reality.ts";

/** Name of the network; FlatnetNode's. */
const NETWORK = "tests";
const PODS = 8;
/** A plugin is killed at most this long after it was started: a little after the usual end. */
const KILL_WITHIN_MS = 40;

/** Something that is not as it has to be. Its message tells the story up to there. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
  readonly code = "INVARIANT";
  constructor(problems: readonly string[], { story }: Model) {
    super([...problems, "what was done:", ...story.map((line, i) => `  ${i + 1}. ${line}`)].join("\n"));
  }
}

/** Which attachment a command is about: places in lists that are as long as they are by then. */
interface Target {
  readonly pod: number;
  /** Of the containers that claim the pod's namespace. */
  readonly container: number;
  readonly ifname: string;
}

const NO_WISH: Wish = { portMappings: [], ips: [] };

type Command = fc.AsyncCommand<Model, Reality>;

/** Compares everything once, and lets what is open be decided first. */
export async function verify(model: Model, reality: Reality): Promise<void> {
  const seen = await reality.see(model.daemonUp);
  learn(model, seen);
  const problems = differences(model, seen);
  if (problems.length > 0) throw new InvariantError(problems, model);
}

/** A command from its name and what it does; what it returns is told in the story. */
function command(
  name: string,
  run: (model: Model, reality: Reality) => Promise<string>,
  check: (model: Model) => boolean = () => true,
): Command {
  return {
    toString: () => name,
    // Readonly<> has no private members, so it is no Model any more.
    check: (model) => check(model as Model),
    async run(model, reality) {
      try {
        model.story.push(`${name} …`);
        const outcome = await run(model, reality);
        model.story[model.story.length - 1] = `${name}: ${outcome}`;
      } catch (error) {
        throw error instanceof InvariantError ? error : new InvariantError([String(error)], model);
      }
      await verify(model, reality);
    },
  };
}

// Running the plugin.

interface Call {
  readonly env?: CniEnvironment;
  readonly conf?: object;
  /** Milliseconds after which it is killed. */
  readonly killAfterMs?: number;
}

function callPlugin(reality: Reality, verb: string, attachment: Attachment | undefined, call: Call): Promise<Finished> {
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
  const conf = node.conf({ connectWaitMs: 0, ...runtimeConfigOf(attachment), ...call.conf });
  const timeoutMs = call.killAfterMs ?? 60_000;
  return runToEnd(pluginCommand(node.netns), { env, input: conf, timeoutMs });
}

function runtimeConfigOf(attachment: Attachment | undefined): object {
  if (attachment === undefined) return {};
  const { portMappings, ips } = attachment.wish;
  return { runtimeConfig: { portMappings, ...(ips.length > 0 && { ips }) } };
}

/** How a verb ended, which is one of the ways expected; on success the verb's stdout. */
function accept(model: Model, what: string, finished: Finished, expected: readonly Expected[]): string | undefined {
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

function acceptSilence(model: Model, what: string, finished: Finished, expected: readonly Expected[]): string {
  const stdout = accept(model, what, finished, expected);
  if (stdout !== undefined && stdout !== "") throw new InvariantError([`${what} says ${stdout}`], model);
  return describe(finished);
}

function describe({ status, stdout }: Finished): string {
  if (status === null) return "killed";
  if (status === 0) return "success";
  const { code, details } = JSON.parse(stdout);
  return `code ${code}, ${details}`;
}

// Finding what a command is about.

async function podAt(model: Model, reality: Reality, index: number): Promise<ModelPod> {
  // A runtime never comes back to a namespace that is gone, but for one ADD that is on its way.
  const existing = model.pods.findLast((pod) => pod.index === index);
  if (existing !== undefined) return existing;
  return newPod(model, reality, index);
}

async function newPod(model: Model, reality: Reality, index: number): Promise<ModelPod> {
  const { path } = await reality.createPod();
  const pod = { index, path, alive: true };
  model.pods.push(pod);
  return pod;
}

function attachmentFor(model: Model, pod: ModelPod, { container, ifname }: Omit<Target, "pod">): Attachment {
  const generation = model.pods.filter(({ index }) => index === pod.index).length;
  const containerId = `pod${pod.index}-${generation}-c${container}`;
  const key = keyOf({ containerId, ifname });
  const existing = model.attachments.get(key);
  if (existing !== undefined) return existing;
  const sha256 = (text: string) => createHash("sha256").update(text).digest();
  const attachment: Attachment = {
    containerId,
    ifname,
    pod,
    hostIfname: hostLinkName({ network: NETWORK, containerId, ifname }, sha256),
    wish: NO_WISH,
    addresses: undefined,
    record: "no",
    onlyAppears: false,
    link: "no",
    making: "whole",
    missing: new Set(),
    note: "no",
    result: undefined,
  };
  model.attachments.set(key, attachment);
  return attachment;
}

/** One of those that there ever were, or of those that `where` says. */
function pick(
  model: Model,
  n: number,
  where: (attachment: Attachment) => boolean = () => true,
): Attachment | undefined {
  const all = [...model.attachments.values()].filter(where);
  return all[n % Math.max(all.length, 1)];
}

const isThere = ({ record, link }: Attachment) => record !== "no" || link !== "no";

// ADD.

async function prepareAdd(model: Model, reality: Reality, target: Target, wish: Wish): Promise<Attachment> {
  const attachment = attachmentFor(model, await podAt(model, reality, target.pod), target);
  // A runtime that tries again asks for the same.
  if (attachment.record === "no") attachment.wish = wish;
  return attachment;
}

async function finishAdd(
  model: Model,
  attachment: Attachment,
  finished: Finished,
  expected: readonly Expected[],
): Promise<string> {
  const what = `ADD of ${keyOf(attachment)}`;
  const stdout = accept(model, what, finished, expected);
  if (stdout === undefined) {
    model.added(attachment, undefined);
    return describe(finished);
  }
  const document = JSON.parse(stdout);
  const addresses: string[] = document.ips.map(({ address }: { address: string }) => address.replace(/\/\d+$/, ""));
  const problems: string[] = [];
  if (attachment.record === "yes" && attachment.addresses !== undefined) {
    const before = attachment.addresses.join(", ");
    if (before !== addresses.join(", ")) problems.push(`${what} gives ${addresses.join(", ")}, and it had ${before}`);
  }
  for (const ip of attachment.wish.ips) {
    if (!addresses.includes(ip)) problems.push(`${what} was to give ${ip} and gives ${addresses.join(", ")}`);
  }
  for (const other of model.attachments.values()) {
    if (other === attachment || other.record !== "yes") continue;
    const both = addresses.filter((address) => other.addresses?.includes(address));
    if (both.length > 0) problems.push(`${what} gives ${both.join(", ")}, which ${keyOf(other)} has`);
  }
  if (problems.length > 0) throw new InvariantError(problems, model);
  model.added(attachment, { addresses, document });
  return addresses.join(", ");
}

function addCommand(target: Target, wish: Wish): Command {
  return command(`ADD ${show(target, wish)}`, async (model, reality) => {
    const attachment = await prepareAdd(model, reality, target, wish);
    const expected = model.expectAdd(attachment);
    return finishAdd(model, attachment, await callPlugin(reality, "ADD", attachment, {}), expected);
  });
}

function addAgainCommand(n: number): Command {
  return command(
    `ADD again ${n}`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const expected = model.expectAdd(attachment);
      const finished = await callPlugin(reality, "ADD", attachment, {});
      return `${keyOf(attachment)}: ${await finishAdd(model, attachment, finished, expected)}`;
    },
    (model) => pick(model, n, isThere) !== undefined,
  );
}

function addKilledCommand(target: Target, wish: Wish, killAfterMs: number): Command {
  return command(`ADD ${show(target, wish)} killed after ${killAfterMs} ms`, async (model, reality) => {
    const attachment = await prepareAdd(model, reality, target, wish);
    const expected = model.expectAdd(attachment);
    const finished = await callPlugin(reality, "ADD", attachment, { killAfterMs });
    if (finished.status !== null) return finishAdd(model, attachment, finished, expected);
    // It can't have come further than to the first obstacle that is certain; without a daemon there is nothing to leave.
    if (model.daemonUp && attachment.pod.alive) model.addCutOff(attachment, expected);
    return "killed";
  });
}

/** ADDs that are in flight together, so many that the addresses may run out. */
function addTogetherCommand(pods: readonly number[]): Command {
  return command(`ADD to pods ${pods.join(", ")} together`, async (model, reality) => {
    const attachments: Attachment[] = [];
    for (const pod of pods) {
      attachments.push(await prepareAdd(model, reality, { pod, container: 0, ifname: "eth0" }, NO_WISH));
    }
    const fresh = attachments.filter(({ record }) => record === "no");
    // To each other they are open: who comes first is not known, nor who gives up again.
    for (const attachment of fresh) attachment.record = "open";
    const expected = attachments.map((attachment) => model.expectAdd(attachment));
    const finished = await Promise.all(attachments.map((attachment) => callPlugin(reality, "ADD", attachment, {})));
    for (const attachment of fresh) attachment.record = "no";
    const outcomes: string[] = [];
    for (const [i, attachment] of attachments.entries()) {
      outcomes.push(await finishAdd(model, attachment, finished[i] as Finished, expected[i] as Expected[]));
    }
    return outcomes.join("; ");
  });
}

/** The namespace that the runtime names has never been. */
function addMissingCommand(target: Target): Command {
  return command(`ADD ${show(target)} into nothing`, async (model, reality) => {
    const attachment = attachmentFor(model, await podAt(model, reality, target.pod), target);
    const env = { CNI_NETNS: "/run/netns/there-is-none" };
    const finished = await callPlugin(reality, "ADD", attachment, { env });
    accept(model, "ADD into nothing", finished, [{ code: 4, says: /CNI_NETNS=\/run\/netns\/there-is-none/ }]);
    return describe(finished);
  });
}

// DEL.

type DelNetns = "its own" | "none" | "another path" | "the node's";

function delEnv(reality: Reality, netns: DelNetns): CniEnvironment {
  if (netns === "none") return { CNI_NETNS: "" };
  if (netns === "another path") return { CNI_NETNS: "/run/netns/there-is-none" };
  return netns === "the node's" ? { CNI_NETNS: reality.node.netns.path } : {};
}

function finishDel(model: Model, attachment: Attachment, finished: Finished, netns: DelNetns): string {
  const expected: Expected[] = [netns === "the node's" ? { code: 8, says: /CNI_NETNS=/ } : "success"];
  const outcome = acceptSilence(model, `DEL of ${keyOf(attachment)}`, finished, expected);
  if (netns !== "the node's") model.deleted(attachment);
  return outcome;
}

async function del(model: Model, reality: Reality, attachment: Attachment, netns: DelNetns, withResult: boolean) {
  const prevResult = withResult && attachment.result !== undefined ? { prevResult: attachment.result } : {};
  const finished = await callPlugin(reality, "DEL", attachment, { env: delEnv(reality, netns), conf: prevResult });
  return finishDel(model, attachment, finished, netns);
}

function delCommand(n: number, netns: DelNetns, withResult: boolean, twice: boolean): Command {
  const how = `netns: ${netns}${withResult ? ", prevResult" : ""}${twice ? ", twice" : ""}`;
  return command(
    `DEL ${n} (${how})`,
    async (model, reality) => {
      const attachment = pick(model, n) as Attachment;
      const outcome = await del(model, reality, attachment, netns, withResult);
      if (twice) await del(model, reality, attachment, netns, withResult);
      return `${keyOf(attachment)}: ${outcome}`;
    },
    (model) => pick(model, n) !== undefined,
  );
}

/** DELs that are in flight together. */
function delTogetherCommand(ns: readonly number[]): Command {
  return command(
    `DEL ${ns.join(", ")} together`,
    async (model, reality) => {
      const attachments = new Set(ns.map((n) => pick(model, n, isThere) as Attachment));
      const deleting = [...attachments].map(async (attachment) => ({
        attachment,
        finished: await callPlugin(reality, "DEL", attachment, {}),
      }));
      const ended = await Promise.all(deleting);
      for (const { attachment, finished } of ended) finishDel(model, attachment, finished, "its own");
      return [...attachments].map(keyOf).join(", ");
    },
    (model) => pick(model, 0, isThere) !== undefined,
  );
}

/** Of a container that was never added. */
function delUnknownCommand(target: Target): Command {
  return command(`DEL ${show(target)}`, async (model, reality) => {
    const attachment = attachmentFor(model, await podAt(model, reality, target.pod), target);
    return del(model, reality, attachment, "its own", false);
  });
}

function delKilledCommand(n: number, killAfterMs: number): Command {
  return command(
    `DEL ${n} killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const finished = await callPlugin(reality, "DEL", attachment, { killAfterMs });
      if (finished.status !== null) return `${keyOf(attachment)}: ${finishDel(model, attachment, finished, "its own")}`;
      model.delCutOff(attachment);
      return `${keyOf(attachment)}: killed`;
    },
    (model) => pick(model, n, isThere) !== undefined,
  );
}

// The other verbs.

function checkCommand(n: number): Command {
  const hasResult = ({ result }: Attachment) => result !== undefined;
  return command(
    `CHECK ${n}`,
    async (model, reality) => {
      const attachment = pick(model, n, hasResult) as Attachment;
      const what = `CHECK of ${keyOf(attachment)}`;
      const expected = model.expectCheck(attachment);
      const finished = await callPlugin(reality, "CHECK", attachment, { conf: { prevResult: attachment.result } });
      return `${keyOf(attachment)}: ${acceptSilence(model, what, finished, expected)}`;
    },
    (model) => pick(model, n, hasResult) !== undefined,
  );
}

/** @param kept which of the attachments are valid, by their places, again from the first after the last */
function gcCommand(kept: readonly boolean[]): Command {
  return command(`GC (valid: ${kept.map(Number).join("")})`, async (model, reality) => {
    const valid = [...model.attachments.values()].filter((_, i) => kept[i % kept.length]);
    const list = valid.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
    const conf = { "cni.dev/valid-attachments": [...list, { containerID: "stranger", ifname: "eth0" }] };
    const finished = await callPlugin(reality, "GC", undefined, { conf });
    const outcome = acceptSilence(model, "GC", finished, [model.daemonUp ? "success" : { code: 11 }]);
    if (finished.status === 0) model.collected(new Set(valid.map(keyOf)));
    return outcome;
  });
}

const statusCommand = () =>
  command("STATUS", async (model, reality) => {
    const expected = model.expectStatus();
    return acceptSilence(model, "STATUS", await callPlugin(reality, "STATUS", undefined, {}), expected);
  });

// What happens around the plugin.

const daemonIsUp = ({ daemonUp }: Model) => daemonUp;
const daemonIsDown = ({ daemonUp }: Model) => !daemonUp;

function stopDaemonCommand(signal: "SIGTERM" | "SIGKILL"): Command {
  return command(
    `daemon ${signal}`,
    async (model, { node }) => {
      const status = await node.stop(signal);
      model.daemonStopped();
      if (signal === "SIGTERM" && status !== 0) throw new InvariantError([`the daemon ended with ${status}`], model);
      return "down";
    },
    daemonIsUp,
  );
}

export async function startDaemon(model: Model, reality: Reality): Promise<void> {
  await reality.node.start();
  model.daemonStarted(new Set((await reality.see(true)).daemon?.records.map(({ key }) => key)));
}

const startDaemonCommand = () =>
  command(
    "daemon start",
    async (model, reality) => {
      await startDaemon(model, reality);
      return "up";
    },
    daemonIsDown,
  );

/** The ADD waits for the daemon, which works off the journal first. */
function addDuringStartCommand(target: Target, wish: Wish): Command {
  return command(
    `ADD ${show(target, wish)} while the daemon starts`,
    async (model, reality) => {
      const attachment = await prepareAdd(model, reality, target, wish);
      const adding = callPlugin(reality, "ADD", attachment, { conf: { connectWaitMs: 9_000 } });
      try {
        await reality.node.start();
      } finally {
        await adding;
      }
      // Which of the open ones the daemon still had is not to be known when the ADD has come in between.
      for (const other of model.attachments.values()) other.note = "no";
      model.daemonUp = true;
      return finishAdd(model, attachment, await adding, model.expectAdd(attachment));
    },
    daemonIsDown,
  );
}

/** The daemon is killed while a verb waits for its answer. */
function addCutOffCommand(target: Target, wish: Wish, killAfterMs: number): Command {
  return command(
    `ADD ${show(target, wish)} and the daemon killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = await prepareAdd(model, reality, target, wish);
      const expected = model.expectAdd(attachment);
      const adding = callPlugin(reality, "ADD", attachment, {});
      await sleep(killAfterMs);
      await reality.node.stop("SIGKILL");
      const finished = await adding;
      const outcome = await finishAdd(model, attachment, finished, [...expected, { code: 11 }]);
      // What it could not give back when it failed, or was never told.
      if (finished.status !== 0 && attachment.record === "no" && attachment.pod.alive) attachment.record = "open";
      model.daemonStopped();
      return outcome;
    },
    daemonIsUp,
  );
}

function delCutOffCommand(n: number, killAfterMs: number): Command {
  return command(
    `DEL ${n} and the daemon killed after ${killAfterMs} ms`,
    async (model, reality) => {
      const attachment = pick(model, n, isThere) as Attachment;
      const deleting = callPlugin(reality, "DEL", attachment, {});
      await sleep(killAfterMs);
      await reality.node.stop("SIGKILL");
      const outcome = finishDel(model, attachment, await deleting, "its own");
      model.daemonStopped();
      // The daemon was told, or the note is there.
      attachment.note = "open";
      return `${keyOf(attachment)}: ${outcome}`;
    },
    (model) => model.daemonUp && pick(model, n, isThere) !== undefined,
  );
}

function vanishCommand(index: number): Command {
  const find = (model: Model) => model.pods.findLast((pod) => pod.index === index && pod.alive);
  return command(
    `the namespace of pod ${index} vanishes`,
    async (model, reality) => {
      const pod = find(model) as ModelPod;
      await reality.removePod(pod.path);
      model.vanished(pod);
      return "gone";
    },
    (model) => find(model) !== undefined,
  );
}

function newPodCommand(index: number): Command {
  const find = (model: Model) => model.pods.findLast((pod) => pod.index === index);
  return command(
    `pod ${index} comes anew`,
    async (model, reality) => {
      await newPod(model, reality, index);
      return "made";
    },
    (model) => find(model)?.alive === false,
  );
}

/** Waits until the daemon has retired all that have no namespace. */
const retireCommand = () =>
  command(
    "retirement",
    async (model, reality) => {
      const gone = [...model.attachments.values()].filter(({ pod }) => !pod.alive).map(keyOf);
      await waitFor(async () => {
        const { daemon } = await reality.see(true);
        return daemon?.records.every(({ key }) => !gone.includes(key)) ?? false;
      });
      model.retired();
      return "done";
    },
    (model) => model.daemonUp && [...model.attachments.values()].some((one) => one.record !== "no" && !one.pod.alive),
  );

const isWhole = ({ link, making }: Attachment) => link === "yes" && making === "whole";

function removeLinkCommand(n: number): Command {
  return command(
    `link ${n} is deleted`,
    async (model, reality) => {
      const attachment = pick(model, n, isWhole) as Attachment;
      await reality.node.netns.ip("link", "delete", attachment.hostIfname);
      model.linkRemoved(attachment);
      return keyOf(attachment);
    },
    (model) => pick(model, n, isWhole) !== undefined,
  );
}

function removePartCommand(n: number, part: Removable): Command {
  const has = (attachment: Attachment) =>
    isWhole(attachment) && attachment.addresses !== undefined && !attachment.missing.has(part);
  return command(
    `${part} of ${n} is deleted`,
    async (model, reality) => {
      const attachment = pick(model, n, has) as Attachment;
      const { addresses = [], hostIfname, ifname, pod } = attachment;
      const address = addresses.find((one) => one.includes(":") === part.endsWith("6")) as string;
      if (part === "pod address 6") {
        await reality.pod(pod.path)?.ip("address", "delete", `${address}/128`, "dev", ifname);
      } else await reality.node.netns.ip("route", "delete", address, "dev", hostIfname);
      attachment.missing.add(part);
      return keyOf(attachment);
    },
    (model) => pick(model, n, has) !== undefined,
  );
}

function show({ pod, container, ifname }: Target, wish?: Wish): string {
  const wants = wish === undefined ? [] : [...wish.portMappings.map((port) => JSON.stringify(port)), ...wish.ips];
  return `pod ${pod} container ${container} ${ifname}${wants.length > 0 ? ` (${wants.join(", ")})` : ""}`;
}

// What is drawn.

/** @param subnets what the node's addresses begin with: "10.77.1.", "fd00:77:1::" */
export function commandArbitraries(subnets: Readonly<Record<4 | 6, string>>): fc.Arbitrary<Command>[] {
  const n = fc.nat({ max: 30 });
  const podIndex = fc.nat({ max: PODS - 1 });
  const target: fc.Arbitrary<Target> = fc.record({
    pod: podIndex,
    container: fc.oneof({ arbitrary: fc.constant(0), weight: 5 }, { arbitrary: fc.constant(1), weight: 1 }),
    ifname: fc.oneof({ arbitrary: fc.constant("eth0"), weight: 6 }, { arbitrary: fc.constant("net1"), weight: 1 }),
  });
  const port = fc.record(
    {
      hostPort: fc.constantFrom(8080, 8081),
      containerPort: fc.constantFrom(80, 443),
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      hostIP: fc.constantFrom("192.0.2.1", "2001:db8::1"),
    },
    { requiredKeys: ["hostPort", "containerPort", "protocol"] },
  );
  const ip4 = fc.integer({ min: 1, max: 7 }).map((last) => `${subnets[4]}${last}`);
  const ip6 = fc.nat({ max: 7 }).map((last) => `${subnets[6]}${last === 0 ? "" : last}`);
  const rarely = <T>(arbitrary: fc.Arbitrary<T[]>) =>
    fc.oneof({ arbitrary: fc.constant<T[]>([]), weight: 3 }, { arbitrary, weight: 1 });
  const wish: fc.Arbitrary<Wish> = fc.record({
    portMappings: rarely(
      fc.uniqueArray(port, {
        minLength: 1,
        maxLength: 2,
        selector: ({ hostPort, protocol }) => `${hostPort}${protocol}`,
      }),
    ),
    ips: rarely(
      fc.oneof(
        ip4.map((ip) => [ip]),
        ip6.map((ip) => [ip]),
        fc.tuple(ip4, ip6),
      ),
    ),
  });
  const moment = fc.integer({ min: 1, max: KILL_WITHIN_MS });
  const netns = fc.constantFrom<DelNetns>("its own", "its own", "none", "another path", "the node's");
  const part = fc.constantFrom<Removable>("host route 4", "host route 6", "pod address 6");
  const add = fc.tuple(target, wish).map((args) => addCommand(...args));
  const addTogether = fc.uniqueArray(podIndex, { minLength: 2, maxLength: PODS }).map(addTogetherCommand);
  const addDuringStart = fc.tuple(target, wish).map((args) => addDuringStartCommand(...args));
  const del = fc.tuple(n, netns, fc.boolean(), fc.boolean()).map((args) => delCommand(...args));
  const check = n.map(checkCommand);
  const start = fc.constant(null).map(startDaemonCommand);
  const status = fc.constant(null).map(statusCommand);
  const retire = fc.constant(null).map(retireCommand);
  const mostly = fc.constantFrom(true, true, true, false);
  // As often as they are named; the daemon is up most of the time.
  return [
    ...[add, add, add, add, add, add, add, add, n.map(addAgainCommand)],
    fc.tuple(target, wish, moment).map((args) => addKilledCommand(...args)),
    fc.tuple(target, wish, moment).map((args) => addKilledCommand(...args)),
    fc.tuple(target, wish, moment).map((args) => addCutOffCommand(...args)),
    target.map(addMissingCommand),
    ...[addTogether, addTogether],
    ...[del, del],
    fc.uniqueArray(n, { minLength: 2, maxLength: 6 }).map(delTogetherCommand),
    target.map(delUnknownCommand),
    fc.tuple(n, moment).map((args) => delKilledCommand(...args)),
    fc.tuple(n, moment).map((args) => delCutOffCommand(...args)),
    ...[check, check, check],
    fc.array(mostly, { minLength: 4, maxLength: 16 }).map(gcCommand),
    ...[status, status],
    fc.constantFrom("SIGTERM" as const, "SIGKILL" as const).map(stopDaemonCommand),
    ...[start, start, start, start, start, start, addDuringStart, addDuringStart, addDuringStart],
    ...[podIndex.map(vanishCommand), podIndex.map(newPodCommand), podIndex.map(newPodCommand)],
    ...[retire, retire],
    n.map(removeLinkCommand),
    fc.tuple(n, part).map((args) => removePartCommand(...args)),
  ];
}
