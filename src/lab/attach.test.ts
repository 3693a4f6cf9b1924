// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { addedAddresses, pluginFailed, pluginRun } from "./attach.ts";
import { type LabNode, type LabPod, planTopology } from "./topology.ts";

const topology = planTopology({ name: "lab", nodes: 1, pods: 1, family: "dual" });
const node = topology.nodes[0] as LabNode;
const pod = node.pods[0] as LabPod;

function ended(differs: { code?: number; stdout?: string; stderr?: string }) {
  return { code: 0, stdout: "", stderr: "", ms: 1, ...differs };
}

test("the plugin is called as the CNI specification says a runtime does", () => {
  const { command, args, env, stdin } = pluginRun("ADD", "/opt/cni/bin/flatnet", topology, node, pod);
  expect([command, ...args]).toEqual(["/opt/cni/bin/flatnet"]);
  expect(env).toMatchObject({
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: pod.containerId,
    CNI_NETNS: "/run/netns/flatnet-lab-node1-pod1",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
  });
  expect(env["CNI_ARGS"]?.split(";")).toEqual([
    "IgnoreUnknown=1",
    "K8S_POD_NAMESPACE=lab",
    "K8S_POD_NAME=node1-pod1",
    `K8S_POD_INFRA_CONTAINER_ID=${pod.containerId}`,
    `K8S_POD_UID=${pod.uid}`,
  ]);
  expect(JSON.parse(stdin)).toEqual({
    cniVersion: "1.1.0",
    name: "flatnet",
    type: "flatnet",
    socket: "/run/flatnet-lab/lab/node1/flatnetd.sock",
    journalDir: "/run/flatnet-lab/lab/node1/state/journal",
  });
});

describe("ADD's result", () => {
  test("gives the pod's addresses in canonical text, IPv4 first", () => {
    const stdout = JSON.stringify({
      cniVersion: "1.1.0",
      ips: [{ address: "fd00:10:244:1:0::2/128" }, { address: "10.244.1.2/32" }],
    });
    expect(addedAddresses("node1-pod1", ended({ stdout }))).toEqual(["10.244.1.2", "fd00:10:244:1::2"]);
  });

  test.each(["", "[]", "{}", '{"ips":[{"address":"10.244.1/24"}]}', '{"ips":[{}]}'])(
    "that has no readable addresses is refused: %j",
    (stdout) => {
      expect(() => addedAddresses("node1-pod1", ended({ stdout }))).toThrow(
        expect.objectContaining({ code: "LAB_ATTACH_FAILED", message: "ADD of node1-pod1 printed no CNI result" }),
      );
    },
  );

  test("that is a CNI error is told with its code and text", () => {
    const stdout = JSON.stringify({ cniVersion: "1.1.0", code: 11, msg: "flatnetd is not there", details: "ENOENT" });
    expect(() => addedAddresses("node1-pod1", ended({ code: 1, stdout }))).toThrow(
      "ADD of node1-pod1 failed: code 11: flatnetd is not there: ENOENT",
    );
  });
});

test("a plugin that dies without a word is told with its exit code and stderr", () => {
  const error = pluginFailed("DEL", "node1-pod1", ended({ code: 139, stderr: "Segmentation fault\n" }));
  expect(error.message).toBe("DEL of node1-pod1 failed: exit code 139");
  expect(error.detail).toEqual(["Segmentation fault"]);
});
