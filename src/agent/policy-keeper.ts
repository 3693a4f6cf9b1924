// SPDX-License-Identifier: Apache-2.0
//
// Network policies of this node's pods, kept in the kernel. What is known of Kubernetes and which attachments there are goes into the
// model, and what follows from it into the kernel: at once for a pod that is being added, a moment later for all else. As long as
// nothing is known, what a daemon before left stays in force.
import type { AllocationRecord, PodName } from "../ipam/records.ts";
import type { AttachmentGuard } from "../ipam/service.ts";
import type { Change, Collection } from "../kube/collection.ts";
import { type KubePod, keyOf, type ObjectKey } from "../kube/objects.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import { attachmentKey } from "../net/names.ts";
import { CounterTotals, type PolicyTotal } from "../policy/engine/counter-totals.ts";
import { DeniedFlows, type FirstPacket, suspectsOf } from "../policy/engine/denied-flows.ts";
import { type LogSocket, watchDenied } from "../policy/engine/denied-packets.ts";
import { PolicyError } from "../policy/engine/errors.ts";
import { type CountedRule, type PolicyKernel, PolicyTable } from "../policy/engine/policy-table.ts";
import { Interpreter } from "../policy/interpret.ts";
import { type LocalPod, PolicyModel, type PolicySettings } from "../policy/model.ts";
import { FaultyPolicies, type FaultyPoliciesOptions } from "./faulty-policies.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import type { PolicyKnowledge, PolicyObjects } from "./policy-knowledge.ts";
import { PolicySamples } from "./policy-samples.ts";

/** The group of NFLOG that denied packets are sampled to: the number of our links' group. */
export const POLICY_LOG_GROUP = 26220;

/** A change of Kubernetes waits so long for others, in milliseconds: a rollout is hundreds of them. */
const SETTLE_MS = 20;
/** Between comparisons of what the kernel holds with what it should. */
const VERIFY_MS = 30_000;
/** After one that took long it rests so many times as long: with ten thousand peers there is much to read. */
const VERIFY_REST = 100;
const RETRY_MS = 2_000;
/** How long an ADD waits for policies to be known, in milliseconds: a daemon that has just been installed reads them first. */
const KNOWN_WAIT_MS = 3_000;

/** How many differences of the kernel's table are named in the log. */
const PROBLEMS_TOLD = 20;
const REMADE = "the rules of network policies had been changed by somebody else and were made anew";
/** How often attachments are listed again when some come or go meanwhile. */
const LISTS_MAX = 10;

/**
 * How long the API server may take to confirm what is known from disk, in milliseconds. That may be older than what the daemon before
 * enforced: it was killed before it was on disk. So that stays in force until then.
 */
const RESTORED_WAIT_MS = 2_000;

export interface PolicyKeeperOptions {
  readonly kernel: PolicyKernel;
  readonly objects: PolicyObjects;
  readonly settings: PolicySettings;
  /** Asks for a pod that nobody has told of yet, once and not for long. */
  readonly findPod: (pod: PodName) => Promise<KubePod | undefined>;
  readonly log: Log;
  /** For samples of denied packets; there are none where it is missing. */
  readonly openLogSocket?: () => LogSocket;
  /** How long after an ADD asked, or a change was heard of, it was in force, in seconds. */
  readonly onEnforced?: (since: "add" | "change", seconds: number) => void;
  /** As FaultyPolicies have them. */
  readonly onFaulty?: FaultyPoliciesOptions["onFaulty"];
  readonly spreadMs?: FaultyPoliciesOptions["spreadMs"];
  readonly knownWaitMs?: number;
  readonly restoredWaitMs?: number;
}

/** What this is the guard of. */
export interface Attachments {
  list(): Promise<{ readonly allocations: readonly AllocationRecord[] }>;
}

export class PolicyKeeper implements AttachmentGuard {
  readonly #options: PolicyKeeperOptions;
  readonly #model: PolicyModel;
  readonly #table: PolicyTable;
  readonly #flows: DeniedFlows;
  readonly #totals = new CounterTotals();
  readonly #loop: Loop;
  /** By attachment, what the model was told of it, and that as text. */
  readonly #locals = new Map<string, { readonly pod: LocalPod; readonly text: string }>();
  /** Policies of which not all can be used. */
  readonly #faulty: FaultyPolicies;
  /** Counts admissions and dismissals, so that a list from before one is known for old. */
  #version = 0;
  /** Pods that were asked for and that the collection hasn't. */
  readonly #found = new Map<ObjectKey, KubePod>();
  readonly #closers: (() => void)[] = [];
  readonly #known = Promise.withResolvers<void>();
  #isKnown = false;
  #restoredTimer: NodeJS.Timeout | undefined;
  /** All connections are to be judged again, once what is known is confirmed. */
  #mustJudgeAll = false;
  /** The first transaction with all that is known is done. */
  #synced = false;
  #problem: string | undefined;
  /** Addresses that came or went with their pods since the last transaction. */
  #exempt = new Set<string>();
  /** When the first change came that is not in force yet, by performance.now(). */
  #changedAt: number | undefined;
  #attachments: Attachments | undefined;
  /** When to compare next, by performance.now(). */
  #verifyAt = performance.now() + VERIFY_MS;

  private constructor(options: PolicyKeeperOptions, model: PolicyModel, table: PolicyTable) {
    const { kernel, log } = options;
    this.#options = options;
    this.#model = model;
    this.#table = table;
    this.#faulty = new FaultyPolicies(options);
    this.#closers.push(() => this.#faulty.close());
    this.#flows = new DeniedFlows(kernel.netlink, {
      judge: () => this.#judge(),
      onError: (err) => log.error({ err }, "connections that policies deny now could not be ended"),
      onEnded: (count) => log.info({ count }, "connections are ended that policies deny now"),
    });
    this.#loop = new Loop(() => this.#pass(), {
      name: "policies",
      settleMs: SETTLE_MS,
      intervalMs: VERIFY_MS,
      retryMs: RETRY_MS,
      onError: (err) => {
        this.#problem = err instanceof Error ? err.message : String(err);
        log.error({ err }, "network policies could not be brought up to date; what was in force stays");
      },
    });
  }

  /** Changes nothing yet. @throws PolicyError */
  static async open(options: PolicyKeeperOptions): Promise<PolicyKeeper> {
    const { kernel, objects, settings, log } = options;
    const model = new PolicyModel(settings);
    const source = {
      get ruleset() {
        return model.ruleset;
      },
      take: () => model.commit(),
    };
    const table = await PolicyTable.open(kernel, source, POLICY_LOG_GROUP);
    if (!table.samples) log.warn("this kernel has no NFLOG: packets that policies deny aren't in the log");
    const keeper = new PolicyKeeper(options, model, table);
    keeper.#follow(objects.namespaces, (key, namespace) => model.setNamespace(key, namespace));
    keeper.#follow(objects.policies, (key, policy) => {
      model.setPolicy(key, policy);
      keeper.#faulty.note("NetworkPolicy", key, policy);
    });
    if (objects.clusterPolicies !== undefined) {
      keeper.#follow(objects.clusterPolicies, (key, policy) => {
        model.setClusterPolicy(key, policy);
        keeper.#faulty.note("ClusterNetworkPolicy", key, policy);
      });
    }
    keeper.#follow(objects.pods, (key, pod) => {
      keeper.#found.delete(key);
      model.setPod(key, pod);
    });
    keeper.#look();
    return keeper;
  }

  /**
   * Enforces what is known, for the attachments that there are, and from now on what changes.
   * @throws PolicyError when the kernel refuses
   */
  async start(attachments: Attachments): Promise<void> {
    this.#attachments = attachments;
    const { log, openLogSocket } = this.#options;
    if (this.#table.samples && openLogSocket !== undefined) {
      const samples = new PolicySamples({
        ruleset: () => this.#model.ruleset,
        podOf: (address) => this.#podOf(address),
        log,
      });
      const onError = (err: unknown) => log.warn({ err }, "packets that policies deny aren't in the log");
      this.#closers.push(
        watchDenied(openLogSocket(), POLICY_LOG_GROUP, { onPacket: (packet) => samples.tell(packet), onError }),
      );
    }
    if (this.#isKnown) await this.#enforce(attachments);
    this.#loop.request();
  }

  /** Why policies aren't in force as they should be, in words; undefined when they are. */
  get problem(): string | undefined {
    return this.#problem ?? this.waitsFor;
  }

  /** What pods can't be served without, in words; undefined once policies have been in force. */
  get waitsFor(): string | undefined {
    if (!this.#isKnown) return "network policies are not known yet";
    return this.#synced ? undefined : "network policies are not in force yet";
  }

  /** How many policies can't be used as a whole. */
  get faulty(): number {
    return this.#faulty.count;
  }

  /** Whether all that was known when the daemon started is in force, or what came since. */
  get synced(): boolean {
    return this.#synced;
  }

  /** What is known and in force at this moment, for who explains it. */
  get knowledge(): PolicyKnowledge {
    const { objects, settings } = this.#options;
    const locals = [...this.#locals.values()].map(({ pod }) => pod);
    const { ruleset } = this.#model;
    const { problem } = this;
    return { objects, settings, locals, ruleset, problem, found: this.#found, policiesKnown: this.#isKnown };
  }

  /** What the rules have counted since they were made. @throws PolicyError */
  counters(): Promise<CountedRule[]> {
    return this.#table.counters();
  }

  /** What policies have let through and denied, since the daemon started. @throws PolicyError */
  async totals(): Promise<PolicyTotal[]> {
    this.#totals.add(await this.#table.counters(), this.#model.ruleset);
    return this.#totals.totals();
  }

  async admit(record: AllocationRecord): Promise<void> {
    const begun = performance.now();
    const { pod } = record;
    const local = localOf(record);
    if (pod === undefined || local === undefined) return;
    if (!this.#isKnown) await this.#waitUntilKnown();
    if (!this.#isKnown) {
      const as = this.#options.settings.onUnknown === "deny" ? "closed" : "open";
      await this.#table.hold(record.addresses, as);
      // What there is to know may have come meanwhile; then it is in force for all, and this is none of them.
      if (!this.#synced) return;
    }
    await this.#findUnknown(pod);
    // Nobody has connections who hasn't a link yet; those of the address's former life are ended before it is given again.
    if (!this.#locals.has(local.id)) for (const address of record.addresses) this.#exempt.add(address);
    this.#setLocal(local);
    this.#version++;
    // The first transaction is of all pods: it takes the place of what a daemon before left.
    if (this.#synced || this.#attachments === undefined) await this.#apply();
    else await this.#enforce(this.#attachments);
    this.#options.onEnforced?.("add", (performance.now() - begun) / 1000);
  }

  dismiss({ attachment, addresses }: AllocationRecord): void {
    this.#version++;
    for (const address of addresses) this.#exempt.add(address);
    // At once in the model, so that the next pod with these addresses has nothing of it; a moment later in the kernel.
    this.#dropLocal(attachmentKey(attachment));
    this.#loop.request();
  }

  /** May come again. What is in the kernel stays. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    for (const close of this.#closers.splice(0)) close();
    await this.#flows.idle();
    await this.#table.idle();
  }

  #follow<T>(collection: Collection<T>, set: (key: ObjectKey, object: T | undefined) => void): void {
    for (const [key, object] of collection.objects) set(key, object);
    const subscription = collection.subscribe((changes: readonly Change<T>[]) => {
      for (const { key, after } of changes) set(key, after);
      if (changes.length > 0) this.#changedAt ??= performance.now();
      this.#look();
      this.#loop.request();
    });
    this.#closers.push(() => subscription.close());
  }

  /** Whether all that policies are made of is known. */
  #look(): void {
    const states = this.#states();
    if (this.#isKnown || states.includes("unknown")) return;
    if (!states.includes("restored")) {
      this.#know();
      return;
    }
    if (this.#restoredTimer !== undefined) return;
    this.#restoredTimer = setTimeout(() => this.#know(), this.#options.restoredWaitMs ?? RESTORED_WAIT_MS);
    this.#closers.push(() => clearTimeout(this.#restoredTimer));
  }

  #know(): void {
    if (this.#isKnown) return;
    this.#isKnown = true;
    this.#model.setPoliciesKnown(true);
    this.#known.resolve();
    this.#loop.request();
  }

  #states(): Collection<unknown>["state"][] {
    const { pods, namespaces, policies, clusterPolicies } = this.#options.objects;
    return [pods, namespaces, policies, clusterPolicies].flatMap((one) => (one === undefined ? [] : [one.state]));
  }

  async #waitUntilKnown(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.#options.knownWaitMs ?? KNOWN_WAIT_MS);
    });
    await Promise.race([this.#known.promise, late]);
    clearTimeout(timer);
  }

  #tellFaulty(): void {
    this.#faulty.tell(() => [...this.#model.ruleset.chains.values()].flatMap(({ policies }) => policies));
  }

  async #pass(): Promise<void> {
    if (!this.#isKnown || this.#attachments === undefined) return;
    await this.#enforce(this.#attachments);
    if (performance.now() >= this.#verifyAt) await this.#verify();
    this.#problem = undefined;
  }

  async #verify(): Promise<void> {
    const begun = performance.now();
    const problems = await this.#table.verify();
    const now = performance.now();
    this.#verifyAt = now + Math.max(VERIFY_MS, VERIFY_REST * (now - begun));
    if (problems.length > 0) this.#options.log.warn({ problems: problems.slice(0, PROBLEMS_TOLD) }, REMADE);
  }

  async #enforce(attachments: Attachments): Promise<void> {
    const changedAt = this.#changedAt;
    this.#changedAt = undefined;
    try {
      await this.#takeLocals(attachments);
      await this.#apply();
    } catch (error) {
      this.#changedAt = changedAt ?? this.#changedAt;
      throw error;
    }
    if (changedAt !== undefined) this.#options.onEnforced?.("change", (performance.now() - changedAt) / 1000);
  }

  async #apply(): Promise<void> {
    const first = !this.#synced;
    const exempt = this.#exempt;
    this.#exempt = new Set();
    const { change, whole, refusal } = await this.#table.sync();
    this.#synced = true;
    if (refusal !== undefined) this.#options.log.warn({ err: refusal }, REMADE);
    this.#tellFaulty();
    // After a start nobody knows what has changed since the daemon before.
    if (whole || first) this.#mustJudgeAll = true;
    // What is known from disk alone may be too old to end anything for.
    if (this.#mustJudgeAll && this.#states().every((state) => state === "synced")) {
      this.#mustJudgeAll = false;
      this.#flows.end("all");
    } else this.#flows.end(suspectsOf(change, exempt));
  }

  /**
   * Tells the model of the attachments that there are. Without all of them nothing may be enforced: who isn't known of is open.
   * @throws PolicyError where they come and go so fast that no list is true
   */
  async #takeLocals(attachments: Attachments): Promise<void> {
    for (let attempt = 0; attempt < LISTS_MAX; attempt++) {
      const version = this.#version;
      const { allocations } = await attachments.list();
      if (version !== this.#version) continue;
      const left = new Set(this.#locals.keys());
      for (const record of allocations) {
        const local = localOf(record);
        if (local === undefined) continue;
        left.delete(local.id);
        this.#setLocal(local);
      }
      for (const id of left) this.#dropLocal(id);
      return;
    }
    throw new PolicyError("POLICY_UNSTEADY", `attachments came and went while they were listed ${LISTS_MAX} times`);
  }

  #setLocal(pod: LocalPod): void {
    const text = [pod.namespace, pod.name, pod.uid, ...pod.addresses.map(formatAddress)].join(" ");
    if (this.#locals.get(pod.id)?.text === text) return;
    this.#locals.set(pod.id, { pod, text });
    this.#model.setLocal(pod.id, pod);
  }

  #dropLocal(id: string): void {
    const local = this.#locals.get(id);
    if (local === undefined) return;
    this.#locals.delete(id);
    this.#model.setLocal(id, undefined);
    const key = keyOf(local.pod);
    if (this.#found.delete(key)) this.#model.setPod(key, undefined);
  }

  /** A pod that the watch hasn't told of. Where nobody can say, the model has it as one that isn't known. */
  async #findUnknown(pod: PodName): Promise<void> {
    const { objects, findPod } = this.#options;
    const key = keyOf(pod);
    const known = objects.pods.objects.get(key);
    if (known !== undefined && (pod.uid === "" || known.uid === pod.uid)) return;
    const found = await findPod(pod);
    // What the watch has told meanwhile is newer.
    if (found === undefined || objects.pods.objects.get(key) !== known) return;
    this.#found.set(key, found);
    this.#model.setPod(key, found);
  }

  #judge(): (packet: FirstPacket, hook: "forward" | "output") => boolean {
    const interpreter = new Interpreter(this.#model.ruleset);
    return ({ source, destination, protocol, port }, hook) => {
      const l4 = protocol === 6 ? "tcp" : protocol === 17 ? "udp" : protocol === 132 ? "sctp" : "icmp";
      const dport = l4 === "icmp" ? undefined : port;
      const packet = { saddr: parseAddress(source), daddr: parseAddress(destination), protocol: l4, dport } as const;
      return interpreter.judge(packet, hook).allowed;
    };
  }

  /** For a line in the log now and then: looks at all of them. */
  #podOf(address: string): string | undefined {
    for (const { pod } of this.#locals.values()) {
      if (pod.addresses.some((own) => formatAddress(own) === address)) return keyOf(pod);
    }
    const bytes = parseAddress(address);
    for (const [key, pod] of this.#options.objects.pods.objects) {
      if (!pod.ended && pod.addresses.some((own) => Buffer.compare(own, bytes) === 0)) return key;
    }
    return undefined;
  }
}

/** undefined for what is no pod of Kubernetes, of which there are no policies. */
function localOf({ attachment, pod, addresses }: AllocationRecord): LocalPod | undefined {
  if (pod === undefined || pod.namespace === "" || pod.name === "") return undefined;
  const { namespace, name, uid } = pod;
  return {
    id: attachmentKey(attachment),
    namespace,
    name,
    uid: uid === "" ? undefined : uid,
    addresses: addresses.map(parseAddress),
  };
}
