// SPDX-License-Identifier: Apache-2.0
//
// RUNS, inside a network namespace: compiles the policies of policy-cluster.ts and brings them into the kernel, beside a compiler that
// knows nothing of before, and beside iptables-restore. Prints the samples as JSON.
import { execFileSync } from "node:child_process";
import type { KubePod } from "../src/kube/objects.ts";
import { keyOf } from "../src/kube/objects.ts";
import { parseNamespace } from "../src/kube/parse-namespace.ts";
import { parseNetworkPolicy } from "../src/kube/parse-network-policy.ts";
import { parsePod } from "../src/kube/parse-pod.ts";
import { NETLINK_NETFILTER, Netlink } from "../src/netlink/event-loop.ts";
import { removeTable } from "../src/nft/table.ts";
import { Transactor } from "../src/nft/transactor.ts";
import { modelOf } from "../src/policy/compile.ts";
import { PolicyTable } from "../src/policy/engine/policy-table.ts";
import type { LocalPod, PolicyModel } from "../src/policy/model.ts";
import { POLICY_TABLE } from "../src/policy/ruleset.ts";
import { sys, writeAside } from "../src/sys/node.ts";
import { APPS, linearLines, NAMESPACES, namespaceObject, PODS, podObject, policyObject } from "./policy-cluster.ts";

export interface Sampled {
  readonly what: string;
  readonly peerName: string;
  readonly ours: number[];
  readonly peer: number[];
}

const NODE = "node-1";
const LOG_GROUP = 26220;
const SETTINGS = { onUnknown: "deny", allowFromNode: true } as const;
/** Changes of one pod, each measured by itself. */
const CHANGES = 10;

const runs = Number(process.argv[2]);
const sampled: Sampled[] = [];
const there = <T>(value: T | undefined): T => {
  if (value === undefined) throw new Error("an object of the bench can't be read");
  return value;
};
const times = <T>(count: number, make: (n: number) => T) => Array.from({ length: count }, (_, n) => make(n));

const pods = times(PODS, (n) => there(parsePod(podObject(n))));
const namespaces = times(NAMESPACES, (n) => there(parseNamespace(namespaceObject(n))));
const policies = times(NAMESPACES * APPS, (n) => there(parseNetworkPolicy(policyObject(n))));
const localOf = ({ namespace, name, uid, addresses }: KubePod): LocalPod => ({
  id: uid,
  namespace,
  name,
  uid,
  addresses,
});
const isHere = ({ nodeName }: KubePod) => nodeName === NODE;

function modelOfAll(all = pods): PolicyModel {
  const locals = all.filter(isHere).map(localOf);
  const model = modelOf({ pods: all, namespaces, policies, locals, policiesKnown: true }, SETTINGS);
  return model;
}

function sample(run: number, what: string, peerName: string, who: "ours" | "peer", ms: number): void {
  if (run < 0) return;
  const known = sampled.find((found) => found.what === what && found.peerName === peerName);
  const one = known ?? { what, peerName, ours: [], peer: [] };
  if (known === undefined) sampled.push(one);
  one[who].push(ms);
}

async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

const linear = (all = pods) =>
  ([4, 6] as const).map((family) => linearLines({ pods: all, namespaces, policies }, NODE, family));

function restore([v4 = "", v6 = ""]: readonly string[]): void {
  execFileSync("iptables-nft-restore", { input: v4 });
  execFileSync("ip6tables-nft-restore", { input: v6 });
}

const COMPILE = "compile: all of it, and all of it as a list";
const APPLY = "kernel: all of it";
const APPLY_ONE = "kernel: one pod comes or goes";
const LIST = "a list of rules";
const ANEW = "compiling all of it";
const RESTORE = "iptables-nft-restore";

const transactor = Transactor.open(sys, writeAside);
const netlink = Netlink.open(NETLINK_NETFILTER);
// A peer of pods here, which isn't here itself, is what changes.
const others = pods.filter((pod) => !isHere(pod) && pod.labels["app"] === "app-1" && pod.namespace === "team-0");
const locals = pods.filter(isHere);

for (let run = -1; run < runs; run++) {
  sample(run, COMPILE, LIST, "ours", await timed(() => modelOfAll().commit()));
  let lines: string[] = [];
  sample(run, COMPILE, LIST, "peer", await timed(() => (lines = linear())));
  const model = modelOfAll();
  model.commit();
  const change = async (what: string, work: () => void, all: KubePod[]) => {
    const both = await timed(() => {
      work();
      model.commit();
    });
    sample(run, what, ANEW, "ours", both);
    sample(run, what, ANEW, "peer", await timed(() => modelOfAll(all).commit()));
  };
  for (let n = 0; n < CHANGES; n++) {
    const other = others[n % others.length] as KubePod;
    const local = locals[n % locals.length] as KubePod;
    const without = pods.filter((pod) => pod !== other);
    await change("compile: a peer of pods goes", () => model.setPod(keyOf(other), undefined), without);
    await change("compile: a peer of pods comes", () => model.setPod(keyOf(other), other), pods);
    const labelled = { ...other, labels: { ...other.labels, app: "app-2" } };
    await change("compile: a pod's label changes", () => model.setPod(keyOf(other), labelled), [...without, labelled]);
    model.setPod(keyOf(other), other);
    model.setLocal(local.uid, undefined);
    model.commit();
    await change("compile: a pod of this node comes", () => model.setLocal(local.uid, localOf(local)), pods);
  }

  const inKernel = modelOfAll();
  const source = { ruleset: inKernel.ruleset, take: () => inKernel.commit() };
  inKernel.commit();
  const table = await PolicyTable.open({ netlink, transactor }, source, LOG_GROUP);
  sample(run, APPLY, RESTORE, "ours", await timed(() => table.sync()));
  for (let n = 0; n < CHANGES; n++) {
    const other = others[n % others.length] as KubePod;
    for (const pod of [undefined, other]) {
      inKernel.setPod(keyOf(other), pod);
      sample(run, APPLY_ONE, RESTORE, "ours", await timed(() => table.sync()));
    }
  }
  const problems = await table.verify();
  if (problems.length > 0) throw new Error(problems[0]);
  await transactor.transaction(removeTable(POLICY_TABLE));

  sample(run, APPLY, RESTORE, "peer", await timed(() => restore(lines)));
  const without = linear(pods.filter((pod) => pod !== others[0]));
  for (const next of [without, lines]) sample(run, APPLY_ONE, RESTORE, "peer", await timed(() => restore(next)));
  for (const family of [4, 6]) execFileSync("nft", ["delete", "table", family === 4 ? "ip" : "ip6", "filter"]);
}
transactor.close();
netlink.close();
process.stdout.write(JSON.stringify(sampled));
