// SPDX-License-Identifier: Apache-2.0
//
// What a rule works with: fresh pods, the plugin's verbs, snapshots. It keeps a record of every call, and in the end takes
// away whatever the rule has left.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { deriveRequest, isObject, type PluginConf, type Request } from "./conf.ts";
import { type Call, type Environment, runBounded } from "./plugin.ts";
import { type AddResult, readResult } from "./result.ts";
import { type Kind, NotSupported, RuleStop } from "./rule.ts";
import { inside, type Netns, type Sandbox } from "./sandbox.ts";
import { difference, type Snapshot, snapshotFiles, snapshotNetns } from "./snapshot.ts";
import { isAtLeast, type SpecVersion } from "./spec.ts";

/** What stays the same in a whole run. */
export interface Settings {
  /** Absolute path of the program. */
  readonly plugin: string;
  readonly kind: Kind;
  readonly conf: PluginConf;
  /** CNI_PATH: where delegates are looked for. */
  readonly cniPath: string;
  /** Directories in which no file may be left, and those within that are the plugin's own business. */
  readonly watch: readonly string[];
  readonly dataDirs: readonly string[];
  /** How many addresses the network has to give; absent when nobody knows. */
  readonly poolSize?: number | undefined;
  readonly timeoutMs: number;
  /** What the plugin says of itself by VERSION; empty when it says nothing of use. */
  readonly supportedVersions: readonly string[];
}

export interface Pod {
  readonly netns: Netns;
  readonly containerId: string;
  readonly ifname: string;
}

export type Verb = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION";

/** Variables to set, or to leave out when undefined. */
export type Variables = Readonly<Record<string, string | undefined>>;

export interface CallOptions {
  /** Parameters of an attachment. */
  readonly pod?: Pod;
  readonly env?: Variables;
  /** Keys on top of the request; those that are undefined are left out of it. */
  readonly conf?: Request;
  /** Instead of the request. */
  readonly stdin?: string | Uint8Array;
}

/** An ADD that went well. */
export interface Added {
  readonly pod: Pod;
  readonly call: Call;
  readonly result: AddResult;
}

/** Host, pods and files at one moment. */
export interface Surroundings {
  readonly host: Snapshot;
  readonly files: Snapshot;
  readonly pods: ReadonlyMap<Netns, Snapshot>;
}

/** What a runtime's own environment has: plugins start programs too. */
const SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** How long something may go on after a call. */
const SETTLE_MS = 3_000;

export class RuleContext {
  readonly spec: SpecVersion;
  readonly settings: Settings;
  readonly sandbox: Sandbox;
  /** Every call of the rule, in order, without those of the cleanup. */
  readonly calls: Call[] = [];
  readonly #pods: Netns[] = [];
  /** ADDs that were not followed by a DEL in the same words. */
  readonly #open = new Map<string, CallOptions>();

  constructor(spec: SpecVersion, settings: Settings, sandbox: Sandbox) {
    this.spec = spec;
    this.settings = settings;
    this.sandbox = sandbox;
  }

  get host(): Netns {
    return this.sandbox.host;
  }

  /** A pod that no plugin has seen. */
  async newPod(ifname = "eth0"): Promise<Pod> {
    const netns = await this.sandbox.createPod();
    this.#pods.push(netns);
    return { netns, containerId: `conformance-${randomBytes(8).toString("hex")}`, ifname };
  }

  newPods(count: number): Promise<Pod[]> {
    return Promise.all(Array.from({ length: count }, () => this.newPod()));
  }

  /** The pod's namespace ends, as after a reboot or when the runtime was quicker. */
  async vanish(pod: Pod): Promise<void> {
    await this.sandbox.removePod(pod.netns);
  }

  /** The request on stdin as a runtime derives it. */
  request(more: Request = {}): Request {
    return deriveRequest(this.settings.conf, this.spec, more);
  }

  /** Runs a verb as a runtime does, whatever comes of it. */
  async call(verb: Verb | string, { pod, env = {}, conf = {}, stdin }: CallOptions = {}): Promise<Call> {
    const environment = this.#environment(verb, pod, env);
    // Before the call: an ADD that fails may have left something too.
    const key = JSON.stringify([pod?.containerId, pod?.ifname, conf["name"] ?? null]);
    if (verb === "ADD" && pod !== undefined) this.#open.set(key, { pod, env, conf });
    const call = await this.#run(environment, stdin ?? JSON.stringify(this.request(conf)));
    if (verb === "DEL" && call.status === 0 && Object.keys(env).length === 0) this.#open.delete(key);
    this.calls.push(call);
    return call;
  }

  /** ADD for a pod, on which the rest of the rule builds. */
  async add(pod: Pod, options: Omit<CallOptions, "pod"> = {}): Promise<Added> {
    const call = await this.call("ADD", { ...options, pod });
    if (call.status !== 0) throw new RuleStop("ADD, on which this rule builds, fails");
    const document = documentOf(call);
    if (document === undefined)
      throw new RuleStop("what ADD prints, on which this rule builds, is not one JSON object");
    return { pod, call, result: readResult(document, this.spec) };
  }

  /** ADD for a new pod. */
  async addNew(options: Omit<CallOptions, "pod"> = {}): Promise<Added> {
    return this.add(await this.newPod(), options);
  }

  /** DEL as a runtime that kept ADD's result does it. */
  del({ pod, result }: Added, options: Omit<CallOptions, "pod"> = {}): Promise<Call> {
    // Runtimes send it since 0.4.0.
    const kept = isAtLeast(this.spec, "0.4.0") ? { prevResult: result.document } : {};
    return this.call("DEL", { ...options, pod, conf: { ...kept, ...options.conf } });
  }

  check({ pod, result }: Added, options: Omit<CallOptions, "pod"> = {}): Promise<Call> {
    return this.call("CHECK", { ...options, pod, conf: { prevResult: result.document, ...options.conf } });
  }

  gc(valid: readonly Added[], conf: Request = {}): Promise<Call> {
    const attachments = valid.map(({ pod }) => ({ containerID: pod.containerId, ifname: pod.ifname }));
    return this.call("GC", { conf: { "cni.dev/valid-attachments": attachments, ...conf } });
  }

  /** @throws NotSupported when the plugin doesn't list the version: then it need not know what came with it. */
  requireVersion(version: SpecVersion, why: string): void {
    if (!this.settings.supportedVersions.includes(version)) {
      throw new NotSupported(`${why} came with ${version}, which the plugin does not list`);
    }
  }

  async look(...pods: readonly Pod[]): Promise<Surroundings> {
    const watched = [this.sandbox.directory, ...this.settings.watch];
    return {
      host: await snapshotNetns(this.host),
      files: snapshotFiles(watched, this.settings.dataDirs),
      pods: new Map(await Promise.all(pods.map(async ({ netns }) => [netns, await snapshotNetns(netns)] as const))),
    };
  }

  /**
   * What is not as it was, without the lines that are expected. A plugin's daemon, and the kernel, get a moment to finish
   * what they are at.
   */
  async changesSince(before: Surroundings, isExpected = (_line: string) => false): Promise<string[]> {
    const end = performance.now() + SETTLE_MS;
    for (;;) {
      const changes = (await this.#changes(before)).filter((line) => !isExpected(line));
      if (changes.length === 0 || performance.now() > end) return changes;
      await sleep(100);
    }
  }

  async #changes(before: Surroundings): Promise<string[]> {
    const watched = [this.sandbox.directory, ...this.settings.watch];
    const pods: string[] = [];
    for (const [netns, snapshot] of before.pods) {
      pods.push(...difference(snapshot, await snapshotNetns(netns), "in the pod"));
    }
    return [
      ...difference(before.host, await snapshotNetns(this.host), "on the host"),
      ...pods,
      ...difference(before.files, snapshotFiles(watched, this.settings.dataDirs), "among the files"),
    ];
  }

  /** Takes away what the rule left: a DEL for each ADD without one, then the pods. Failures of DEL were the rules' to find. */
  async cleanUp(): Promise<void> {
    for (const { pod, env = {}, conf = {} } of this.#open.values()) {
      if (pod === undefined) continue;
      const stdin = JSON.stringify(this.request({ ...conf, prevResult: undefined }));
      const { CNI_PATH = this.settings.cniPath } = env;
      // Under the names it may have gone by, if the rule gave others than the pod's.
      if (Object.keys(env).length > 0) await this.#run(this.#environment("DEL", pod, env), stdin);
      await this.#run(this.#environment("DEL", pod, { CNI_PATH }), stdin);
    }
    this.#open.clear();
    for (const netns of this.#pods.splice(0)) await this.sandbox.removePod(netns);
  }

  #environment(verb: string, pod: Pod | undefined, more: Variables): Environment {
    const attachment =
      pod === undefined ? {} : { CNI_CONTAINERID: pod.containerId, CNI_NETNS: pod.netns.path, CNI_IFNAME: pod.ifname };
    const fixed = { PATH: SEARCH_PATH, CNI_COMMAND: verb, CNI_PATH: this.settings.cniPath };
    return toEnvironment({ ...fixed, ...attachment, ...more });
  }

  #run(env: Environment, stdin: string | Uint8Array): Promise<Call> {
    const { plugin, timeoutMs } = this.settings;
    return runBounded(inside(this.host, plugin), { env, stdin, timeoutMs });
  }
}

/** The one JSON object on stdout, or undefined when there is none, or more than that. */
export function documentOf({ stdout }: Call): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(stdout);
    return isObject(value) ? value : undefined;
  } catch {
    // Whether there had to be one is the caller's question.
    return undefined;
  }
}

function toEnvironment(variables: Variables): Environment {
  return Object.fromEntries(
    Object.entries(variables).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}
