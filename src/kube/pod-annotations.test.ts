// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readPodAnnotations } from "./pod-annotations.ts";

const NOTHING = { addresses: [], pool: undefined, mtu: undefined, ingressRate: undefined, egressRate: undefined };

test("a pod without annotations, or with other people's, asks for nothing", () => {
  expect(readPodAnnotations({})).toEqual({ annotations: NOTHING, problems: [] });
  expect(readPodAnnotations({ "example.com/mtu": "x" })).toEqual({ annotations: NOTHING, problems: [] });
});

test("everything that can be asked for is read, addresses IPv4 first and canonical", () => {
  const { annotations, problems } = readPodAnnotations({
    "flatnet.dev/addresses": " FD00:10:244:1:0::9, 10.244.1.9 ",
    "flatnet.dev/pool": "db",
    "flatnet.dev/mtu": "1400",
    "kubernetes.io/ingress-bandwidth": "10M",
    "kubernetes.io/egress-bandwidth": "1.5Mi",
  });
  expect(problems).toEqual([]);
  expect(annotations).toEqual({
    addresses: ["10.244.1.9", "fd00:10:244:1::9"],
    pool: "db",
    mtu: 1400,
    ingressRate: 10_000_000,
    egressRate: 1_572_864,
  });
});

describe("what can't be used is named with its annotation and value", () => {
  test.each([
    ["flatnet.dev/addresses", ""],
    ["flatnet.dev/addresses", "10.244.1.9,"],
    ["flatnet.dev/addresses", "10.244.1.9/24"],
    ["flatnet.dev/addresses", "10.244.1.9,10.244.1.10"],
    ["flatnet.dev/addresses", "web-0"],
    ["flatnet.dev/pool", ""],
    ["flatnet.dev/pool", "../etc"],
    ["flatnet.dev/pool", "a".repeat(64)],
    ["flatnet.dev/mtu", ""],
    ["flatnet.dev/mtu", "67"],
    ["flatnet.dev/mtu", "65536"],
    ["flatnet.dev/mtu", "1e3"],
    ["flatnet.dev/mtu", "-1400"],
    ["kubernetes.io/ingress-bandwidth", ""],
    ["kubernetes.io/ingress-bandwidth", "."],
    ["kubernetes.io/ingress-bandwidth", "fast"],
    ["kubernetes.io/ingress-bandwidth", "999"],
    ["kubernetes.io/egress-bandwidth", "1001T"],
    ["kubernetes.io/egress-bandwidth", "-10M"],
    ["kubernetes.io/egress-bandwidth", "10mb"],
    ["kubernetes.io/egress-bandwidth", "10Mi2"],
  ])("%s: %j", (name, value) => {
    const { annotations, problems } = readPodAnnotations({ [name]: value });
    expect(annotations).toEqual(NOTHING);
    expect(problems).toEqual([
      expect.stringMatching(/^annotation (flatnet\.dev|kubernetes\.io)\/[a-z-]+ is ".*; it must be /),
    ]);
    expect(problems[0]).toContain(`annotation ${name} is ${JSON.stringify(value)}`);
  });
});

test("one that can't be used doesn't hide the others", () => {
  const { annotations, problems } = readPodAnnotations({ "flatnet.dev/mtu": "huge", "flatnet.dev/pool": "db" });
  expect(annotations).toEqual({ ...NOTHING, pool: "db" });
  expect(problems).toHaveLength(1);
});

test("a value of any length is quoted in a few characters", () => {
  const { problems } = readPodAnnotations({ "flatnet.dev/addresses": "1,".repeat(100_000) });
  expect((problems[0] as string).length).toBeLessThan(300);
});

test.each([
  ["1k", 1_000],
  ["1000", 1_000],
  ["1e3", 1_000],
  ["1E3", 1_000],
  ["+10M", 10_000_000],
  [".5M", 500_000],
  ["5.M", 5_000_000],
  ["1.1M", 1_100_000],
  ["1000000000u", 1_000],
  ["1000.5", 1_001],
  ["1P", 1e15],
  ["2G", 2e9],
  ["1Gi", 2 ** 30],
])("the rate %s is %d bits a second", (text, rate) => {
  expect(readPodAnnotations({ "kubernetes.io/ingress-bandwidth": text }).annotations.ingressRate).toBe(rate);
});

test("whatever the annotations are, reading them ends in values or problems", () => {
  const names = ["flatnet.dev/addresses", "flatnet.dev/pool", "flatnet.dev/mtu", "kubernetes.io/ingress-bandwidth"];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.string(), (name, text) => {
      const { annotations, problems } = readPodAnnotations({ [name]: text });
      const asked =
        annotations.addresses.length > 0 ||
        Object.values(annotations).some((v) => typeof v !== "object" && v !== undefined);
      expect(asked).toBe(problems.length === 0);
    }),
  );
});
