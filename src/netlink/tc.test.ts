// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent } from "../../test/helpers/netlink-golden.ts";
import { attributes, type Message, NLM_F_CREATE, NLM_F_REPLACE } from "./message.ts";
import { burstTicks, decodeQdisc, getRootQdisc, RTM_NEWQDISC, replaceRootTbf, type TokenBucket } from "./tc.ts";

const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const NLM_F_ECHO = 8;
const TCMSG = 20;
const TCA_OPTIONS = 2;
const TBF_PARMS = 1;
const TBF_RTAB = 2;
const TBF_RATE64 = 4;
const TBF_BURST = 6;

test("a token bucket is set as the root qdisc as iproute2 does it, without the table of times", () => {
  // tc qdisc replace dev flabc root tbf rate 8mbit burst 10000 limit 20000
  // sends 03 for cell_log and ffff for cell_align too, which belong to its TCA_TBF_RTAB of 1024 bytes.
  expectSent(replaceRootTbf(5, "flabc", { rate: 1_000_000, burst: 10_000, limit: 20_000 }), {
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: `00000000 05000000 00000000 ffffffff 00000000
      08000100 74626600
      34000200
        28000100 00010000 00000000 40420f00  00000000 00000000 00000000  204e0000 5a620200 00000000
        08000600 10270000`,
  });
});

test("a rate over 32 bits goes in 64", () => {
  // tc qdisc replace dev flabc root tbf rate 100gbit burst 12mb limit 13mb
  const body = replaceRootTbf(5, "flabc", { rate: 12_500_000_000, burst: 12_582_912, limit: 13_631_488 }).body;
  const options = attributes(attributes(body.subarray(TCMSG)).get(TCA_OPTIONS) as Uint8Array);
  expect(options.get(TBF_RATE64)).toEqual(fromHex("00dd0ee9 02000000"));
});

test("the root qdisc of a link is looked up by the link's index, and the answer comes to the asker", () => {
  expectSent(getRootQdisc(5, "flabc"), {
    type: RTM_GETQDISC,
    flags: NLM_F_ECHO,
    body: "00000000 05000000 00000000 ffffffff 00000000",
  });
});

function message(body: string, type = RTM_NEWQDISC): Message {
  return { type, flags: 0, seq: 1, body: fromHex(body) };
}

// Kernel 6.18: what it tells of a link with the tbf of the command above each, up to the statistics.
// tc qdisc replace dev flx root tbf rate 10gbit burst 12mb limit 13mb
const TEN_GBIT = `00000000 03000000 00000b80 ffffffff 03000000  08000100 74626600
  2c000200 28000100 00010000 00000000 807c814a 00000000 00000000 00000000 0000d000 66660200 00000000`;
// tc qdisc replace dev flx root tbf rate 100gbit burst 12mb limit 13mb
const HUNDRED_GBIT = `00000000 03000000 00000b80 ffffffff 03000000  08000100 74626600
  38000200 28000100 00010000 00000000 ffffffff 00000000 00000000 00000000 0000d000 703d0000 00000000
    0c000400 00dd0ee9 02000000`;
// tc qdisc replace dev flx root tbf rate 1mbit peakrate 2mbit burst 32kb limit 33kb minburst 3000
const WITH_PEAK = `00000000 03000000 00000b80 ffffffff 03000000  08000100 74626600
  2c000200 28000100 00010000 00000000 48e80100 00010000 00000000 90d00300 00840000 00803e00 6cdc0200`;
const NOQUEUE = "00000000 03000000 00000000 ffffffff 02000000  0c000100 6e6f7175 65756500";

test("a token bucket of the kernel's is read", () => {
  expect(decodeQdisc(message(TEN_GBIT))).toEqual({
    index: 3,
    root: true,
    kind: "tbf",
    tbf: { rate: 1_250_000_000, burstTicks: 157_286, limit: 13_631_488, peak: false },
  });
  expect(burstTicks(1_250_000_000, 12 * 2 ** 20)).toBe(157_286);
});

test("a rate over 32 bits is read from its 64", () => {
  expect(decodeQdisc(message(HUNDRED_GBIT))?.tbf?.rate).toBe(12_500_000_000);
});

test("a token bucket with a peak rate says so", () => {
  expect(decodeQdisc(message(WITH_PEAK))?.tbf?.peak).toBe(true);
});

test("another qdisc is one without a token bucket", () => {
  expect(decodeQdisc(message(NOQUEUE))).toEqual({ index: 3, root: true, kind: "noqueue", tbf: undefined });
});

test("a qdisc below a class is not the root", () => {
  expect(decodeQdisc(message(TEN_GBIT.replace("ffffffff", "01000180")))?.root).toBe(false);
});

test("what is no qdisc message, or too short for one, is nothing", () => {
  expect(decodeQdisc(message(TEN_GBIT, RTM_DELQDISC))).toBeUndefined();
  expect(decodeQdisc(message("00000000 03000000 00000000 ffffffff"))).toBeUndefined();
});

test("anything at all is a qdisc or nothing", () => {
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    // Cut off or with a byte changed.
    fc
      .tuple(fc.constantFrom(TEN_GBIT, HUNDRED_GBIT, NOQUEUE), fc.nat(120), fc.nat(120), fc.nat(255))
      .map(([hex, length, at, byte]) => {
        const bytes = fromHex(hex).slice(0, length);
        if (at < bytes.length) bytes[at] = byte;
        return bytes;
      }),
  );
  fc.assert(
    fc.property(body, (bytes) => {
      const qdisc = decodeQdisc({ type: RTM_NEWQDISC, flags: 0, seq: 1, body: bytes });
      expect(qdisc === undefined).toBe(bytes.length < TCMSG);
    }),
  );
});

test("what is asked of the kernel is what is read back, had it only the request to tell", () => {
  const bucket: fc.Arbitrary<TokenBucket> = fc.record({
    rate: fc.oneof(fc.integer({ min: 1, max: 2 ** 32 }), fc.integer({ min: 1, max: 2 ** 50 })),
    burst: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    limit: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  });
  fc.assert(
    fc.property(bucket, fc.integer({ min: 1, max: 2 ** 31 - 1 }), ({ rate, burst, limit }, index) => {
      const { body, type } = replaceRootTbf(index, "eth0", { rate, burst, limit });
      const ticks = Math.min(burstTicks(rate, burst), 2 ** 32 - 1);
      expect(decodeQdisc({ type, flags: 0, seq: 1, body })).toEqual({
        index,
        root: true,
        kind: "tbf",
        tbf: { rate, burstTicks: ticks, limit, peak: false },
      });
      const options = attributes(attributes(body.subarray(TCMSG)).get(TCA_OPTIONS) as Uint8Array);
      const expected = rate < 2 ** 32 ? [TBF_PARMS, TBF_BURST] : [TBF_PARMS, TBF_BURST, TBF_RATE64];
      expect([...options.keys()]).toEqual(expected);
      expect(options.has(TBF_RTAB)).toBe(false);
    }),
  );
});
