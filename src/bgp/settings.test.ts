// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { readPassword } from "./settings.ts";
import { settings } from "./testing/cluster.ts";

describe("routes.bgp", () => {
  test("without a word is a full mesh in a private AS", () => {
    expect(settings()).toEqual({ asn: 64_512, bfd: false, reflectors: [], peers: [], bird: "/usr/sbin/bird" });
  });

  test("has routers by address and AS", () => {
    const { peers } = settings({ peers: [{ address: "fd00:31::fe", asn: 4_200_000_000, bfd: true }] });
    expect(peers.map(({ address, ...rest }) => [formatAddress(address), rest])).toEqual([
      ["fd00:31::fe", { asn: 4_200_000_000, bfd: true }],
    ]);
  });

  test.each<[object]>([
    [{ asn: 0 }],
    [{ asn: 23_456 }],
    [{ asn: 65_535 }],
    [{ asn: 4_294_967_295 }],
    [{ asn: 1.5 }],
    [{ asn: "64512" }],
    [{ routerId: "fd00::1" }],
    [{ routerId: "0.0.0.0" }],
    [{ passwordFile: "password" }],
    [{ password: "secret" }],
    [{ peers: [{ address: "172.31.0.1" }] }],
    [{ peers: [{ asn: 64_513 }] }],
    ...["node-1", "127.0.0.1", "0.0.0.0", "169.254.0.1", "224.0.0.5", "::1", "::", "fe80::1", "ff02::1"].map(
      (address): [object] => [{ peers: [{ address, asn: 64_513 }] }],
    ),
    [
      {
        peers: [
          { address: "fd00::1", asn: 64_513 },
          { address: "fd00:0::1", asn: 64_514 },
        ],
      },
    ],
  ])("%j is refused", (written) => {
    expect(() => settings(written)).toThrow();
  });
});

test.each([
  ["secret\n", "secret"],
  ["secret", "secret"],
  ["two words {;}\r\n", "two words {;}"],
  [`${"x".repeat(80)}\n`, "x".repeat(80)],
  ["", undefined],
  ["\n", undefined],
  ["x".repeat(81), undefined],
  ['quo"te', undefined],
  ["two\nlines\n", undefined],
  ["pässword", undefined],
])("the file %j holds the password %j", (text, password) => {
  expect(readPassword(text)).toBe(password);
});
