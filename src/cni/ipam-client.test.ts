// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatAddress } from "../net/address.ts";
import { podAddresses } from "./ipam-client.ts";

test.for([[["10.244.1.7"]], [["fd00::7"]], [["10.244.1.7", "fd00::7"]]])(
  "the daemon's %j are a pod's addresses",
  ([texts]) => {
    expect(podAddresses(texts as string[]).map(formatAddress)).toEqual(texts);
  },
);

test.for<[addresses: string[], details: string]>([
  [[], "no address"],
  [["10.244.1.7", "10.244.1.8"], "two of a family: 10.244.1.7, 10.244.1.8"],
  [["fd00::1", "10.244.1.7", "fd00::2"], "two of a family: fd00::1, 10.244.1.7, fd00::2"],
  [["10.244.1.7/24"], '"10.244.1.7/24" is not an IP address'],
  [[""], '"" is not an IP address'],
  [["0.0.0.0"], "0.0.0.0, which is no host's address"],
  [["127.0.0.1"], "127.0.0.1, which is no host's address"],
  [["169.254.1.1"], "169.254.1.1, which is no host's address"],
  [["224.0.0.1"], "224.0.0.1, which is no host's address"],
  [["255.255.255.255"], "255.255.255.255, which is no host's address"],
  [["::"], "::, which is no host's address"],
  [["::1"], "::1, which is no host's address"],
  [["::ffff:10.244.1.7"], "::ffff:10.244.1.7, which is no host's address"],
  [["fe80::1"], "fe80::1, which is no host's address"],
  [["ff02::1"], "ff02::1, which is no host's address"],
])("the daemon's %j make no sense: code 999", ([texts, details]) => {
  expect(() => podAddresses(texts)).toThrow(
    expect.objectContaining({ code: 999, message: "the daemon's answer makes no sense", details }),
  );
});
