// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex } from "../../test/helpers/hex.ts";
import { expectSent, expectSentInAnyOrder } from "../../test/helpers/netlink-golden.ts";
import {
  createVeth,
  decodeLink,
  deleteLink,
  dumpLinks,
  getLink,
  RTM_DELLINK,
  RTM_NEWLINK,
  setAddrGenModeNone,
  setLinkUp,
} from "./link.ts";
import { type Message, NLM_F_CREATE, NLM_F_EXCL } from "./message.ts";

const IFINFO = 16;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;

test("a veth pair is made by one request, each end with name, MAC, MTU and one queue, the pod's in its namespace", () => {
  const host = { name: "flabc", mac: fromHex("06fe0af40107") };
  const pod = { name: "eth0", mac: fromHex("02fe0af40107") };
  // ip link add flabc numtxqueues 1 numrxqueues 1 mtu 1450 address 06:fe:0a:f4:01:07 group 26220
  //   type veth peer name eth0 numtxqueues 1 numrxqueues 1 mtu 1450 address 02:fe:0a:f4:01:07 netns pod
  // sends the same attributes in another order within IFLA_LINKINFO too, and its kind without the zero at the end.
  expectSentInAnyOrder(
    createVeth(host, pod, 1450, 26220, 4),
    {
      type: RTM_NEWLINK,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      body: `00000000 00000000 00000000 00000000
        08001f00 01000000  08002000 01000000  08000400 aa050000  0a000100 06fe0af4 01070000  08001b00 6c660000
        0a000300 666c6162 63000000
        60001200  09000100 76657468 00000000
          50000200  4c000100 00000000 00000000 00000000 00000000
            09000300 65746830 00000000  0a000100 02fe0af4 01070000  08000400 aa050000
            08001f00 01000000  08002000 01000000  08001c00 04000000`,
    },
    IFINFO,
  );
});

test("addrgenmode none is asked for as iproute2 asks", () => {
  // ip link set eth0 addrgenmode none; with RTM_SETLINK, which never makes a link, instead of RTM_NEWLINK.
  expectSent(setAddrGenModeNone(5, "eth0"), {
    type: RTM_SETLINK,
    flags: 0,
    body: "00000000 05000000 00000000 00000000  10001a00 0c000a00 05000800 01000000",
  });
});

test("a link is set up as iproute2 does it, with an alias where one is given", () => {
  // ip link set eth0 up
  expectSent(setLinkUp(5, "eth0"), { type: RTM_SETLINK, flags: 0, body: "00000000 05000000 01000000 01000000" });
  // ip link set eth0 up alias flatnet:default/web-0
  expectSent(setLinkUp(5, "eth0", "flatnet:default/web-0"), {
    type: RTM_SETLINK,
    flags: 0,
    body: "00000000 05000000 01000000 01000000  19001400 666c6174 6e65743a 64656661 756c742f 7765622d 30000000",
  });
});

test("a link is looked up by its name, without its statistics", () => {
  // ip link show flabc sends ifi_family AF_BRIDGE or 0 and IFLA_EXT_MASK 1 (VF) or 9; ours is 8, RTEXT_FILTER_SKIP_STATS.
  expectSent(getLink("flabc"), {
    type: RTM_GETLINK,
    flags: 0,
    body: "00000000 00000000 00000000 00000000  0a000300 666c6162 63000000  08001d00 08000000",
  });
  expectSent(dumpLinks(), {
    type: RTM_GETLINK,
    flags: 0,
    body: "00000000 00000000 00000000 00000000  08001d00 08000000",
  });
});

test("a link is deleted by its name, not by an index that another could have by now", () => {
  // ip link del flabc looks the index up first and sends that.
  expectSent(deleteLink("flabc"), {
    type: RTM_DELLINK,
    flags: 0,
    body: "00000000 00000000 00000000 00000000  0a000300 666c6162 63000000",
  });
});

function message(body: string, type = RTM_NEWLINK): Message {
  return { type, flags: 0, seq: 7, body: fromHex(body) };
}

// Kernel 6.18: the head of its answer to RTM_GETLINK for a host end, and the attributes of it that matter or nest.
const HOST_END = `00000100 04000000 03100000 00000000
  0a000300 666c6162 63000000  08000d00 e8030000  05001000 02000000  05001100 00000000
  08000400 aa050000  08003200 44000000  08001b00 6c660000  08001e00 00000000  08001f00 01000000
  1a001400 666c6174 6e65743a 64656661 756c742f 7765622d 30000000
  0a000100 06fe0af4 01070000  0a000200 ffffffff ffff0000
  10001200 09000100 76657468 00000000  08002500 00000000  08000500 02000000  0c000600 6e6f7175 65756500`;
const LOOPBACK = `00000403 01000000 49000100 00000000
  07000300 6c6f0000  08000d00 e8030000  08000400 00000100  08001b00 00000000`;

test("a link of the kernel's is read", () => {
  const link = {
    index: 4,
    name: "flabc",
    up: true,
    mtu: 1450,
    group: 26220,
    mac: fromHex("06fe0af40107"),
    peerIndex: 2,
    master: undefined,
    peerNsid: 0,
    alias: "flatnet:default/web-0",
  };
  expect(decodeLink(message(HOST_END))).toEqual(link);
  expect(decodeLink(message(HOST_END, RTM_DELLINK))).toEqual(link);
});

test("a link without MAC, peer and alias has none of them", () => {
  expect(decodeLink(message(LOOPBACK))).toEqual({
    index: 1,
    name: "lo",
    up: true,
    mtu: 65536,
    group: 0,
    mac: undefined,
    peerIndex: undefined,
    master: undefined,
    peerNsid: undefined,
    alias: undefined,
  });
});

test("a link that is down is told from one that is up by its first flag alone", () => {
  expect(decodeLink(message(LOOPBACK.replace("49000100", "48000100")))?.up).toBe(false);
});

test("what is no link message, or too short for one, is nothing", () => {
  expect(decodeLink(message(LOOPBACK, 24))).toBeUndefined();
  expect(decodeLink(message("00000403 01000000 49000100 000000"))).toBeUndefined();
});

test("anything at all is a link or nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(RTM_NEWLINK, RTM_DELLINK), (body, type) => {
      const link = decodeLink({ type, flags: 0, seq: 1, body });
      expect(link === undefined).toBe(body.length < IFINFO);
    }),
  );
});
