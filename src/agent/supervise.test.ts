// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import { formatPrefix, parsePrefix } from "../net/prefix.ts";
import { parseConfig } from "./config.ts";
import type { Log } from "./log.ts";
import { OwnNode } from "./own-node.ts";
import { supervise } from "./supervise.ts";

function node(...podCIDRs: string[]): KubeNode {
  const rest = { uid: "", addresses: [], annotations: {}, taints: [], problem: undefined };
  return { name: "node-1", podCIDRs: podCIDRs.map(parsePrefix), ...rest };
}

/** A daemon whose agents only say that they are there. */
function run(...flags: string[]) {
  const config = parseConfig(["--node-name", "node-1", "--kubernetes", "true", ...flags], () => "");
  if (config === "help") throw new Error("it was help");
  const nodes = new HandMade<KubeNode>();
  const ended = Promise.withResolvers<void>();
  const said: string[] = [];
  const happened: string[] = [];
  const say = (_: object, message: string) => said.push(message);
  const over = supervise({
    config,
    own: new OwnNode("node-1", nodes, undefined),
    start: async ({ podCIDRs, rules }) => {
      const subnets = podCIDRs.map(formatPrefix).join(" ");
      const excluded = (rules.excluded ?? []).map(({ text }) => text);
      happened.push(["start", subnets, ...excluded].join(" "));
      return { stop: async () => void happened.push(`stop ${subnets}`) };
    },
    ended: ended.promise,
    log: { warn: say, error: say } as unknown as Log,
  });
  return { nodes, happened, said, over, end: ended.resolve };
}

test("no agent runs before this node's subnets are known, and it is said once what it waits for", async () => {
  const { nodes, happened, said, over, end } = run();
  nodes.trouble("the API server can't be reached");
  for (let i = 0; i < 3; i++) {
    await new Promise(setImmediate);
    nodes.trouble("the API server can't be reached");
  }
  expect(happened).toEqual([]);
  // Once before anything was known, once for the reason.
  expect(said).toEqual(Array(2).fill("waiting for this node's subnets; no pod can start before"));
  nodes.set({ "node-1": node("10.244.1.0/24") });
  await expect.poll(() => happened).toEqual(["start 10.244.1.0/24"]);
  end();
  await over;
  expect(happened).toEqual(["start 10.244.1.0/24", "stop 10.244.1.0/24"]);
});

test("who is ended while waiting ends", async () => {
  const { happened, over, end } = run();
  end();
  await over;
  expect(happened).toEqual([]);
});

test("another agent follows when the subnets are others, one at a time, and none for anything else", async () => {
  const { nodes, happened, over, end } = run();
  nodes.set({ "node-1": node("10.244.1.0/24", "fd00::/64") });
  await expect.poll(() => happened).toHaveLength(1);
  // Neither of these is another set of subnets.
  nodes.set({ "node-1": node("fd00::/64", "10.244.1.0/24") });
  nodes.set({ "node-1": undefined });
  await new Promise(setImmediate);
  nodes.set({ "node-1": node() });
  await new Promise(setImmediate);
  nodes.set({ "node-1": node("10.244.2.0/24") });
  await expect.poll(() => happened).toHaveLength(3);
  end();
  await over;
  const first = "10.244.1.0/24 fd00::/64";
  expect(happened).toEqual([`start ${first}`, `stop ${first}`, "start 10.244.2.0/24", "stop 10.244.2.0/24"]);
});

test("each agent has the rules that are about its subnets", async () => {
  const { nodes, happened, over, end } = run("--exclude", "10.244.1.0/28", "--exclude", "10.244.2.0/28");
  nodes.set({ "node-1": node("10.244.1.0/24") });
  await expect.poll(() => happened).toHaveLength(1);
  nodes.set({ "node-1": node("10.244.2.0/24") });
  await expect.poll(() => happened).toHaveLength(3);
  end();
  await over;
  expect(happened[0]).toBe("start 10.244.1.0/24 10.244.1.0/28");
  expect(happened[2]).toBe("start 10.244.2.0/24 10.244.2.0/28");
});

test("first subnets that the rules don't fit end the daemon; later ones leave the agent as it is", async () => {
  const wide = ["--exclude", "10.244.1.128-10.244.2.5"];
  const first = run(...wide);
  first.nodes.set({ "node-1": node("10.244.1.0/24") });
  await expect(first.over).rejects.toMatchObject({ code: "IPAM_INVALID" });

  const { nodes, happened, said, over, end } = run(...wide);
  nodes.set({ "node-1": node("10.244.9.0/24") });
  await expect.poll(() => happened).toHaveLength(1);
  nodes.set({ "node-1": node("10.244.1.0/24") });
  await expect.poll(() => said).toContain("this node has other subnets, which can't be used");
  expect(happened).toEqual(["start 10.244.9.0/24"]);
  // And back again.
  nodes.set({ "node-1": node("10.244.9.0/24") });
  await new Promise(setImmediate);
  end();
  await over;
  expect(happened).toEqual(["start 10.244.9.0/24", "stop 10.244.9.0/24"]);
});
