// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Message } from "../netlink/message.ts";
import {
  decodeQdisc,
  getRootQdisc,
  RTM_NEWQDISC,
  replaceRootTbf,
  type TbfState,
  type TokenBucket,
} from "../netlink/tc.ts";
import { type Bandwidth, bandwidthProblems, bandwidthRequests, toTokenBucket } from "../podnet/bandwidth.ts";
import { daemonsBandwidth, parseBandwidth } from "./bandwidth.ts";
import { CniError } from "./errors.ts";

const LINK = { hostIndex: 7, hostName: "flabc", podIndex: 2, podName: "eth0", mtu: 1500 };
const TEN_MBIT = { rate: 10_000_000, burst: 800_000 };

test("rates and bursts of both directions are taken as they are, in bits", () => {
  const value = { ingressRate: 1_000_000, ingressBurst: 500_000, egressRate: 2_000_000, egressBurst: 600_000 };
  expect(parseBandwidth(value)).toEqual({
    ingress: { rate: 1_000_000, burst: 500_000 },
    egress: { rate: 2_000_000, burst: 600_000 },
  });
});

test.each([
  undefined,
  null,
  {},
  { ingressRate: 0, ingressBurst: 0, egressRate: 0, egressBurst: 0 },
  { ingressRate: null, egressBurst: null },
])("%j limits nothing", (value) => {
  expect(parseBandwidth(value)).toBeUndefined();
});

test("one direction alone is limited", () => {
  expect(parseBandwidth({ egressRate: 10_000_000, egressBurst: 800_000 })).toEqual({
    ingress: undefined,
    egress: TEN_MBIT,
  });
  expect(parseBandwidth({ ingressRate: 10_000_000, ingressBurst: 800_000, egressRate: 0 })).toEqual({
    ingress: TEN_MBIT,
    egress: undefined,
  });
});

test.each([
  { rate: 1_000_000, burst: 262_144, why: "32 KiB at least" },
  { rate: 1_000_000_000, burst: 10_000_000, why: "10 ms of the rate" },
  { rate: Number.MAX_SAFE_INTEGER, burst: 4_294_967_295, why: "what the kernel can hold" },
])("a rate of $rate without a burst gets one of $burst bits: $why", ({ rate, burst }) => {
  expect(parseBandwidth({ egressRate: rate })).toEqual({ ingress: undefined, egress: { rate, burst } });
});

test.each([2 ** 31 - 1, 2 ** 32 - 1, 2 ** 35 - 9, 2 ** 35 - 8])(
  "a burst of %d bits, which runtimes fill in where a pod asked for a rate only, is none",
  (burst) => {
    expect(parseBandwidth({ ingressRate: 1_000_000, ingressBurst: burst })?.ingress?.burst).toBe(262_144);
  },
);

test("a large burst that no runtime fills in is taken as it is", () => {
  expect(parseBandwidth({ ingressRate: 1_000_000, ingressBurst: 2 ** 31 })?.ingress?.burst).toBe(2 ** 31);
});

test.each([
  ["bandwidth", "fast", "runtimeConfig.bandwidth"],
  ["bandwidth", [1], "runtimeConfig.bandwidth"],
  ["rate", { ingressRate: "10M" }, 'runtimeConfig.bandwidth.ingressRate is "10M"'],
  ["rate", { egressRate: -1 }, "runtimeConfig.bandwidth.egressRate is -1"],
  ["rate", { egressRate: 1.5 }, "runtimeConfig.bandwidth.egressRate is 1.5"],
  ["rate", { egressRate: 2 ** 60 }, "runtimeConfig.bandwidth.egressRate is 1152921504606847000"],
  ["rate", { egressRate: 7 }, "runtimeConfig.bandwidth.egressRate is 7, not 0 or at least 8"],
  ["burst", { ingressRate: 1000, ingressBurst: true }, "runtimeConfig.bandwidth.ingressBurst is true"],
  [
    "rate",
    { ingressBurst: 1000 },
    "runtimeConfig.bandwidth.ingressRate is missing, not the rate that ingressBurst 1000",
  ],
  ["rate", { egressRate: 0, egressBurst: 1000 }, "runtimeConfig.bandwidth.egressRate is 0, not the rate"],
])("a bad %s in %j is an invalid configuration that names field and value", (_what, value, text) => {
  const error = thrownBy(() => parseBandwidth(value));
  expect(error).toBeInstanceOf(CniError);
  expect(error).toMatchObject({ code: 7, details: expect.stringContaining(text) });
});

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

test("anything at all is limits, nothing, or an error with code 7", () => {
  const number = fc.oneof(fc.nat(), fc.maxSafeInteger(), fc.double(), fc.anything());
  const value = fc.record(
    { ingressRate: number, ingressBurst: number, egressRate: number, egressBurst: number },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(value, fc.anything()), (anything) => {
      const error = thrownBy(() => parseBandwidth(anything));
      if (error !== undefined) expect(error).toMatchObject({ name: "CniError", code: 7 });
    }),
  );
});

test("what a pod receives is limited at the host's end, what it sends at its own", () => {
  const requests = bandwidthRequests({ ingress: TEN_MBIT, egress: { rate: 8_000, burst: 80_000 } }, LINK);
  expect(requests).toEqual({
    host: [replaceRootTbf(7, "flabc", toTokenBucket(TEN_MBIT, 1500))],
    pod: [replaceRootTbf(2, "eth0", toTokenBucket({ rate: 8_000, burst: 80_000 }, 1500))],
  });
});

test("a direction without a limit needs no request", () => {
  expect(bandwidthRequests({ ingress: undefined, egress: TEN_MBIT }, LINK).host).toEqual([]);
  expect(bandwidthRequests({ ingress: TEN_MBIT, egress: undefined }, LINK).pod).toEqual([]);
});

test("bits become the kernel's bytes, and the queue holds 25 ms and a burst", () => {
  expect(toTokenBucket(TEN_MBIT, 1500)).toEqual({ rate: 1_250_000, burst: 100_000, limit: 131_250 });
});

test("a burst shorter than a full frame is raised to one, which would be dropped forever otherwise", () => {
  expect(toTokenBucket({ rate: 8_000, burst: 8 }, 9000)).toEqual({ rate: 1_000, burst: 9_014, limit: 9_039 });
});

const limits = fc.record({
  rate: fc.oneof(fc.integer({ min: 8, max: 2 ** 40 }), fc.integer({ min: 8, max: Number.MAX_SAFE_INTEGER })),
  burst: fc.oneof(fc.integer({ min: 1, max: 2 ** 20 }), fc.integer({ min: 1, max: 2 ** 32 - 1 })),
});

test("every limit is a bucket that the kernel's fields can hold, with room for a full frame", () => {
  fc.assert(
    fc.property(limits, fc.integer({ min: 68, max: 65_535 }), (limit, mtu) => {
      const bucket = toTokenBucket(limit, mtu);
      for (const bytes of [bucket.burst, bucket.limit]) {
        expect(bytes).toBeGreaterThanOrEqual(mtu + 14);
        expect(bytes).toBeLessThan(2 ** 32);
      }
      expect(bucket.rate).toBeGreaterThanOrEqual(1);
      expect(bucket.rate).toBe(Math.floor(limit.rate / 8));
    }),
  );
});

/** The kernel's own account of a bucket, which is its request without the burst in bytes. */
function told(index: number, name: string, bucket: TokenBucket): Message {
  return { ...replaceRootTbf(index, name, bucket), seq: 1 };
}

const both: Bandwidth = { ingress: TEN_MBIT, egress: { rate: 8_000_000, burst: 80_000 } };
const HOST = toTokenBucket(TEN_MBIT, 1500);
const POD = toTokenBucket({ rate: 8_000_000, burst: 80_000 }, 1500);

test("limits that are as they were set have no problems", () => {
  expect(bandwidthProblems(both, LINK, [told(7, "flabc", HOST)], [told(2, "eth0", POD)])).toEqual([]);
});

test("a direction that is not limited is not looked at", () => {
  expect(bandwidthProblems({ ingress: TEN_MBIT, egress: undefined }, LINK, [told(7, "flabc", HOST)], [])).toEqual([]);
});

test("limits that are gone are a problem each", () => {
  const noqueue = { type: RTM_NEWQDISC, flags: 0, seq: 1, body: told(2, "eth0", POD).body.slice() };
  // "noq" in the place of "tbf".
  noqueue.body.set([0x6e, 0x6f, 0x71], 24);
  expect(decodeQdisc(noqueue)?.kind).toBe("noq");
  expect(bandwidthProblems(both, LINK, [], [noqueue])).toEqual([
    "ingress limit on flabc: the root qdisc is none, not tbf",
    "egress limit on eth0: the root qdisc is noq, not tbf",
  ]);
});

test("the qdisc of another link is not taken for the pod's", () => {
  expect(bandwidthProblems(both, LINK, [told(8, "flabd", HOST)], [told(2, "eth0", POD)])).toEqual([
    "ingress limit on flabc: the root qdisc is none, not tbf",
  ]);
});

test.each([
  [{ ...HOST, rate: 2_500_000 }, "the rate is 20000000 bits a second, not 10000000"],
  [{ ...HOST, limit: 1 }, "the queue is 1 bytes, not 131250"],
  [{ ...HOST, burst: 50_000 }, "the burst is 625000 ticks, not 1250000, of 100000 bytes"],
])("a bucket that was changed is a problem: %j", (bucket, problem) => {
  expect(bandwidthProblems(both, LINK, [told(7, "flabc", bucket)], [told(2, "eth0", POD)])).toEqual([
    `ingress limit on flabc: ${problem}`,
  ]);
});

test("a request is no answer to a look-up", () => {
  const request = { ...getRootQdisc(7, "flabc"), seq: 1 };
  expect(bandwidthProblems({ ingress: TEN_MBIT, egress: undefined }, LINK, [request], [])).toHaveLength(1);
});

test("a burst is known again however the kernel's arithmetic rounds it and its 32 bits cut it off", () => {
  fc.assert(
    fc.property(limits, (limit) => {
      const bucket = toTokenBucket(limit, 1500);
      // The kernel: a reciprocal of the rate with 31 significant bits, nanoseconds, a shift by six, the low 32 bits.
      const state = tellAsKernel(bucket);
      const message = told(7, "flabc", bucket);
      new DataView(message.body.buffer, message.body.byteOffset).setUint32(28 + 4 + 4 + 28, state.burstTicks, true);
      expect(decodeQdisc(message)?.tbf).toEqual(state);
      expect(bandwidthProblems({ ingress: limit, egress: undefined }, LINK, [message], [])).toEqual([]);
    }),
  );
});

function tellAsKernel({ rate, burst, limit }: TokenBucket): TbfState {
  let factor = 1_000_000_000n;
  let shift = 0n;
  let multiplier = factor / BigInt(rate);
  while ((multiplier & (1n << 31n)) === 0n && (factor & (1n << 63n)) === 0n) {
    factor <<= 1n;
    shift++;
    multiplier = factor / BigInt(rate);
  }
  const nanoseconds = (BigInt(burst) * (multiplier & 0xffff_ffffn)) >> shift;
  return { rate, burstTicks: Number((nanoseconds >> 6n) & 0xffff_ffffn), limit, peak: false };
}

test("what the daemon tells limits as the runtime's rate without burst does", () => {
  expect(daemonsBandwidth({ ingressRate: 10_000_000n, egressRate: 1_000_000_000_000n })).toEqual(
    parseBandwidth({ ingressRate: 10_000_000, egressRate: 1_000_000_000_000 }),
  );
  expect(daemonsBandwidth({ ingressRate: 10_000_000n, egressRate: 0n })?.egress).toBeUndefined();
  expect(daemonsBandwidth(undefined)).toBeUndefined();
});
