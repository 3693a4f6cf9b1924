import { afterAll, afterEach, beforeAll, expect, onTestFinished } from "vitest";
import { Cleanup, type Finished, run, runToEnd } from "./daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "./flatnet-node.ts";
import { inNetns, type Netns } from "./netns.ts";
import { addressesOf, built, type CniResult, createPod, failureOf, type Pod, resultOf } from "./plugin.ts";

export const V4 = "10.78.1.0/24";
export const V6 = "fd00:78:1::/64";
export const FAMILIES = { v4: [V4], v6: [V6], dual: [V4, V6] } as const;
export const CHECKED_VERSIONS = ["0.4.0", "1.0.0", "1.1.0"] as const;
export const ALL_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", ...CHECKED_VERSIONS] as const;
export const QUIET = { status: 0, stdout: "" };
export const SILENCE: Finished = { ...QUIET, stderr: "" };

/** Makes a pod for the rest of the test. */
export async function newPod(): Promise<Pod> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createPod("pod", cleanup);
}

export const shell = (netns: Netns, script: string) => run(inNetns(netns.path, "sh", "-ec", script));

/** Writes a sysctl of a namespace. */
export const setSysctl = (netns: Netns, path: string, value: string) =>
  shell(netns, `echo ${value} > /proc/sys/net/${path}`);

/** A port where nobody listens: the refusal has come all the way there and back. */
export async function reach(from: Netns, address: string): Promise<void> {
  const command = inNetns(from.path, "bash", "-c", `exec 3<>/dev/tcp/${address}/9`);
  expect((await runToEnd(command, { timeoutMs: 20_000 })).stderr).toContain("Connection refused");
}

/** A node whose daemon runs, for the tests of a group, each of which has to leave it without a trace. */
export function useNode(label: string, podCidrs: readonly string[]): () => FlatnetNode {
  const cleanup = new Cleanup();
  let node: FlatnetNode | undefined;
  beforeAll(async () => {
    // What a test changes behind ADD's back stays as it is.
    node = await createNode(label, cleanup, { podCidrs, flags: ["--repair", "false"] });
    await node.start();
  });
  afterEach(async () => {
    const traces = await (node as FlatnetNode).traces();
    await (node as FlatnetNode).delAll();
    expect(traces).toEqual(NO_TRACES);
  });
  afterAll(() => cleanup.run());
  return () => node as FlatnetNode;
}

/** A pod that was added, and what the runtime knows of it. */
export interface Added {
  readonly pod: Pod;
  readonly result: CniResult;
  /** Name of the host end. */
  readonly host: string;
  readonly addresses: readonly string[];
}

export async function added(node: FlatnetNode, conf: object = {}): Promise<Added> {
  const pod = await newPod();
  const result = resultOf(await node.add(pod, conf));
  return { pod, result, host: result.interfaces[0]?.name ?? "", addresses: addressesOf(result) };
}

export const check = (node: FlatnetNode, { pod, result }: Added, conf: object = {}) =>
  node.run("CHECK", pod, { conf: { prevResult: result, ...conf } });

/** The differences that CHECK told, one each. */
export function differencesOf(finished: Finished): string[] {
  const failure = failureOf(finished);
  expect(failure).toMatchObject({ code: 102, msg: "the attachment is not as ADD made it" });
  return (failure.details ?? "").split("; ");
}

/** `flatnet-ipam` by itself on the attachment of a pod, in another network if `more` says so. */
export function runIpam(node: FlatnetNode, verb: string, pod: Pod, more: object = {}): Promise<Finished> {
  const { socket, journalDir } = node;
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: pod.containerId,
    CNI_NETNS: pod.netns.path,
    CNI_IFNAME: "eth0",
  };
  const conf = {
    cniVersion: "1.1.0",
    name: "tests",
    type: "bridge",
    ipam: { type: "flatnet-ipam", socket, journalDir },
  };
  return runToEnd(inNetns(node.netns.path, built("flatnet-ipam")), {
    env,
    input: JSON.stringify({ ...conf, ...more }),
  });
}
