// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { compareWithKernel, inBoth } from "./consistency.ts";
import type { AllocationRecord } from "./records.ts";
import { type KernelMark, recoveredAttachment } from "./recovered.ts";
import { BOOT_ID, request } from "./testing/fixtures.ts";

function record(name: string, ...addresses: string[]): AllocationRecord {
  const { requestedAddresses: _, withGateway: __, ...common } = request(name);
  return { ...common, addresses, allocatedAtMs: 1, confirmedAtMs: 1, bootId: BOOT_ID, extra: {} };
}

function mark(name: string, ...addresses: string[]): KernelMark {
  return { hostIfname: request(name).hostIfname, alias: `flatnet:default/${name}`, addresses };
}

const linkOf = (name: string) => request(name).hostIfname;

test("store and kernel that agree leave nothing to say, nor does an attachment without a link of its own", () => {
  const elsewhere = { ...record("b", "10.0.0.2"), hostIfname: "" };
  expect(
    compareWithKernel([record("a", "10.0.0.1", "fd00::1"), elsewhere], [mark("a", "10.0.0.1", "fd00::1")]),
  ).toEqual([]);
});

test("each difference is told with its attachment, link and address", () => {
  const [gone, bare, crossed] = [record("gone", "10.0.0.1"), record("bare", "10.0.0.2"), record("crossed", "10.0.0.3")];
  const recovered = { ...record("lost", "10.0.0.4"), attachment: recoveredAttachment(linkOf("lost")) };
  const findings = compareWithKernel(
    [gone, bare, crossed, recovered],
    [mark("bare"), mark("crossed"), mark("lost", "10.0.0.4"), mark("stray", "10.0.0.3", "fd00::9")],
  );
  expect(findings.map(({ message: _, ...rest }) => rest)).toEqual([
    { kind: "link-missing", attachment: gone.attachment, hostIfname: gone.hostIfname, address: "" },
    { kind: "route-missing", attachment: bare.attachment, hostIfname: bare.hostIfname, address: "10.0.0.2" },
    { kind: "route-misled", attachment: crossed.attachment, hostIfname: crossed.hostIfname, address: "10.0.0.3" },
    { kind: "recovered", attachment: recovered.attachment, hostIfname: linkOf("lost"), address: "" },
    { kind: "link-unknown", attachment: undefined, hostIfname: linkOf("stray"), address: "" },
    { kind: "route-misled", attachment: undefined, hostIfname: linkOf("stray"), address: "fd00::9" },
  ]);
  expect(findings.map(({ message }) => message).join("\n")).toContain(
    `link ${linkOf("stray")} (flatnet:default/stray) has no record`,
  );
});

test("what only one of two looks found is an ADD or a DEL under way", () => {
  const first = compareWithKernel([record("a", "10.0.0.1"), record("b", "10.0.0.2")], []);
  const second = compareWithKernel([record("b", "10.0.0.2"), record("c", "10.0.0.3")], []);
  expect(inBoth(first, second)).toMatchObject([{ attachment: { containerId: "b" } }]);
});
