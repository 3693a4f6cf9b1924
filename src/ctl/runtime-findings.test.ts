// SPDX-License-Identifier: Apache-2.0
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { expect, test } from "vitest";
import type { Allocation } from "../gen/flatnet/ipam/v1/ipam.ts";
import { decodeSandboxes } from "./runtime.ts";
import { compareWithRuntime } from "./runtime-findings.ts";

function allocation(containerId: string, ifname = "eth0"): Allocation {
  const attachment = { network: "pods", containerId, ifname };
  return { attachment, hostIfname: `fl${containerId}`, addresses: ["10.244.1.7"] } as unknown as Allocation;
}

test("attachments of pods that run are in order", () => {
  expect(compareWithRuntime([allocation("a"), allocation("a", "net1")], [{ id: "a", ready: true }])).toEqual([]);
});

test("attachments of pods that are stopped, or that the runtime doesn't have, are told", () => {
  const found = compareWithRuntime([allocation("a"), allocation("b")], [{ id: "a", ready: false }]);
  expect(found.map(({ kind, message }) => [kind, message.split(":")[0]])).toEqual([
    ["runtime-stopped", "pods/a/eth0 (10.244.1.7)"],
    ["runtime-unknown", "pods/b/eth0 (10.244.1.7)"],
  ]);
});

test("a network's gateway is no container's", () => {
  expect(compareWithRuntime([allocation("gateway:10.244.1.1", "")], [])).toEqual([]);
});

test("of the runtime's answer the ID and the state are read, and all else is passed over", () => {
  const sandbox = (id: string, state: number) =>
    new BinaryWriter()
      .uint32(10)
      .string(id)
      .uint32(18)
      .bytes(new Uint8Array([1, 2]))
      .uint32(24)
      .int32(state)
      .finish();
  const answer = new BinaryWriter()
    .uint32(10)
    .bytes(sandbox("a", 0))
    .uint32(10)
    .bytes(sandbox("b", 1))
    .uint32(16)
    .int32(9)
    .finish();
  expect(decodeSandboxes(answer)).toEqual([
    { id: "a", ready: true },
    { id: "b", ready: false },
  ]);
});
