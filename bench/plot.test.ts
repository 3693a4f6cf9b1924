// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { distributionSvg } from "./plot.ts";
import type { Row } from "./samples.ts";

const row = (more: Partial<Row> = {}): Row => ({
  what: "ADD: wall",
  unit: "ms",
  ours: [10, 12, 11],
  peer: [20, 22, 21],
  peerName: "ptp & <host-local>",
  ...more,
});

test("every sample is a dot, and the words are text", () => {
  const svg = distributionSvg("ADD", [row()]);
  expect(svg.match(/<circle/g)).toHaveLength(6);
  expect(svg).toContain("ADD: wall (ms): 0.52 × ptp &amp; &lt;host-local&gt;");
});

test("the greatest sample is within the axis, whatever its size", () => {
  for (const most of [0.003, 1, 9.99, 10, 123_456]) {
    const svg = distributionSvg("x", [row({ ours: [most / 2], peer: [most] })]);
    const places = [...svg.matchAll(/cx="([\d.]+)"/g)].map(([, x]) => Number(x));
    expect(Math.max(...places)).toBeLessThanOrEqual(836);
    expect(svg.match(/text-anchor="middle"/g)?.length).toBeGreaterThanOrEqual(4);
  }
});

test("samples that are all zero have an axis too", () => {
  expect(distributionSvg("x", [row({ ours: [0], peer: [0] })])).not.toContain('cx="NaN');
});

test("a small ratio keeps a digit that means something", () => {
  expect(distributionSvg("x", [row({ ours: [0.02], peer: [10] })])).toContain("0.002 × ptp");
});

test("of very many samples the least and the greatest are dots still", () => {
  const many = Array.from({ length: 5000 }, (_, i) => i / 5);
  const svg = distributionSvg("x", [row({ ours: many, peer: [1000] })]);
  const places = [...svg.matchAll(/cx="([\d.]+)"/g)].map(([, x]) => Number(x)).slice(0, -1);
  expect(places.length).toBeLessThan(500);
  expect(Math.min(...places)).toBe(20);
  expect(Math.max(...places)).toBeGreaterThan(835);
});
