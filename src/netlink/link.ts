// SPDX-License-Identifier: Apache-2.0
//
// Links: struct ifinfomsg and IFLA_* of include/uapi/linux/if_link.h, as far as veth pairs need them.
import {
  attributes,
  attrText,
  attrU32,
  Body,
  type Message,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type Request,
} from "./message.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
const RTM_SETLINK = 19;

export const IFF_UP = 0x1;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_AF_SPEC = 26;
const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
const IFLA_NUM_TX_QUEUES = 31;
const IFLA_NUM_RX_QUEUES = 32;
const IFLA_LINK_NETNSID = 37;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;
const AF_INET = 2;
const AF_INET6 = 10;
/** include/uapi/linux/if_link.h and ip.h. */
const IFLA_INET_CONF = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET = 26;
const RTEXT_FILTER_SKIP_STATS = 8;

/** struct ifinfomsg: family, pad, type, index, flags, change mask. */
function ifinfo(index = 0, flags = 0, change = 0): Body {
  return new Body().u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change);
}

/** One end of a veth pair. `mtu` in bytes, `mac` six of them. */
export interface VethEnd {
  readonly name: string;
  readonly mac: Uint8Array;
}

/**
 * Makes both ends of a veth pair where they belong in one request: `ip link add HOST … type veth peer name POD netns FD`.
 * Nothing is moved or renamed, so no grace period is waited for. Single-queue: a veth's queues are per CPU otherwise and
 * cost memory for nothing. Neither end can be made UP here (ENOTCONN).
 */
export function createVeth(host: VethEnd, pod: VethEnd, mtu: number, group: number, podNetns: number): Request {
  const end = (body: Body, { name, mac }: VethEnd) =>
    body
      .attrText(IFLA_IFNAME, name)
      .attr(IFLA_ADDRESS, mac)
      .attrU32(IFLA_MTU, mtu)
      .attrU32(IFLA_NUM_TX_QUEUES, 1)
      .attrU32(IFLA_NUM_RX_QUEUES, 1);
  const body = end(ifinfo(), host)
    .attrU32(IFLA_GROUP, group)
    .nest(IFLA_LINKINFO, (info) => {
      info.attrText(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, (data) => {
        data.nest(VETH_INFO_PEER, (peer) => {
          peer.u8(0).u8(0).u16(0).u32(0).u32(0).u32(0);
          end(peer, pod).attrU32(IFLA_NET_NS_FD, podNetns);
        });
      });
    });
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: body.done(),
    what: `make veth ${host.name} with peer ${pod.name}`,
  };
}

/** Asks for one link by name: `ip link show NAME`. The answer is one RTM_NEWLINK message. */
export function getLink(name: string): Request {
  const body = ifinfo().attrText(IFLA_IFNAME, name).attrU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return { type: RTM_GETLINK, flags: 0, body: body.done(), what: `look up link ${name}` };
}

/** All links of the namespace; for the daemon, never on the ADD path. */
export function dumpLinks(): Request {
  const body = ifinfo().attrU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return { type: RTM_GETLINK, flags: 0, body: body.done(), what: "list links" };
}

/**
 * Keeps the kernel from making a link-local address of its own, which would be tentative for a second. A link without
 * IPv6 (none in the kernel, or an MTU below 1280) gets none anyway.
 */
export function setAddrGenModeNone(index: number, name: string): Request {
  const body = ifinfo(index).nest(IFLA_AF_SPEC, (spec) => {
    spec.nest(AF_INET6, (inet6) => inet6.attrU8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
  });
  const what = `set addrgenmode none on ${name}`;
  return { type: RTM_SETLINK, flags: 0, body: body.done(), what, tolerates: "EAFNOSUPPORT" };
}

/**
 * `sysctl net.ipv4.conf.NAME.route_localnet=1`: lets the node's own 127.0.0.0/8 speak through this link, which a hostPort on
 * localhost needs. The rules of hostPorts keep pods from using it the other way.
 */
export function setRouteLocalnet(index: number, name: string): Request {
  const body = ifinfo(index).nest(IFLA_AF_SPEC, (spec) => {
    spec.nest(AF_INET, (inet) => inet.nest(IFLA_INET_CONF, (conf) => conf.attrU32(IPV4_DEVCONF_ROUTE_LOCALNET, 1)));
  });
  return { type: RTM_SETLINK, flags: 0, body: body.done(), what: `set route_localnet on ${name}` };
}

/** `ip link set NAME group GROUP`. */
export function setLinkGroup(index: number, name: string, group: number): Request {
  const body = ifinfo(index).attrU32(IFLA_GROUP, group);
  return { type: RTM_SETLINK, flags: 0, body: body.done(), what: `set group ${group} on ${name}` };
}

/** `ip link set NAME up`, with an alias where one is given. */
export function setLinkUp(index: number, name: string, alias?: string): Request {
  const body = ifinfo(index, IFF_UP, IFF_UP);
  if (alias !== undefined) body.attr(IFLA_IFALIAS, new TextEncoder().encode(alias));
  return { type: RTM_SETLINK, flags: 0, body: body.done(), what: `set ${name} up` };
}

/** `ip link del NAME`. ENODEV when there is none. */
export function deleteLink(name: string): Request {
  return {
    type: RTM_DELLINK,
    flags: 0,
    body: ifinfo().attrText(IFLA_IFNAME, name).done(),
    what: `delete link ${name}`,
  };
}

/** `ip link set NAME group GROUP`, of a link whose index nobody needs to know. ENODEV when there is none. */
export function setNamedLinkGroup(name: string, group: number): Request {
  const body = ifinfo().attrText(IFLA_IFNAME, name).attrU32(IFLA_GROUP, group);
  return { type: RTM_SETLINK, flags: 0, body: body.done(), what: `set group ${group} on ${name}` };
}

/**
 * `ip link del group GROUP`: all of them or, where one can't be deleted (EOPNOTSUPP), none. They wait together for what each
 * would wait for alone (rtnl_group_dellink of net/core/rtnetlink.c).
 */
export function deleteLinkGroup(group: number): Request {
  const body = ifinfo().attrU32(IFLA_GROUP, group);
  return {
    type: RTM_DELLINK,
    flags: 0,
    body: body.done(),
    what: `delete links of group ${group}`,
    tolerates: "ENODEV",
  };
}

/** `ip link del`, of the link with this index and no other that may have its name by now. ENODEV when there is none. */
export function deleteLinkAt(index: number, name: string): Request {
  return { type: RTM_DELLINK, flags: 0, body: ifinfo(index).done(), what: `delete link ${name}`, tolerates: "ENODEV" };
}

/** What an RTM_NEWLINK message says of a link. */
export interface Link {
  readonly index: number;
  readonly name: string;
  readonly up: boolean;
  readonly mtu: number;
  readonly group: number;
  /** Six bytes; absent on links that have none. */
  readonly mac: Uint8Array | undefined;
  /** Index of a veth's other end, in that end's namespace. */
  readonly peerIndex: number | undefined;
  /** Index of the bridge or bond that it is a port of. */
  readonly master: number | undefined;
  /** The namespace's number for the other end's (`ip netns list-id`); absent when that is in the same one. */
  readonly peerNsid: number | undefined;
  readonly alias: string | undefined;
}

/** Reads an RTM_NEWLINK or RTM_DELLINK message; undefined when it is none or too short. */
export function decodeLink(message: Message): Link | undefined {
  const { body, type } = message;
  if ((type !== RTM_NEWLINK && type !== RTM_DELLINK) || body.length < 16) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const found = attributes(body.subarray(16));
  const name = found.get(IFLA_IFNAME);
  const alias = found.get(IFLA_IFALIAS);
  return {
    index: view.getInt32(4, true),
    name: name === undefined ? "" : attrText(name),
    up: (view.getUint32(8, true) & IFF_UP) !== 0,
    mtu: attrU32(found.get(IFLA_MTU)) ?? 0,
    group: attrU32(found.get(IFLA_GROUP)) ?? 0,
    mac: found.get(IFLA_ADDRESS)?.slice(),
    peerIndex: attrU32(found.get(IFLA_LINK)),
    master: attrU32(found.get(IFLA_MASTER)),
    peerNsid: attrU32(found.get(IFLA_LINK_NETNSID)),
    alias: alias === undefined ? undefined : attrText(alias),
  };
}
