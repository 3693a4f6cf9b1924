// SPDX-License-Identifier: Apache-2.0
//
// NFLOG: copies of packets that rules have sampled (NFULNL_* and NFULA_* of include/uapi/linux/netfilter/nfnetlink_log.h). Whoever
// binds a group has it alone, until its socket is closed.
import { attributes, attrText, Body, type Message, NLM_F_ACK, type Request } from "./message.ts";

const NFNL_SUBSYS_ULOG = 4;
const NFULNL_MSG_PACKET = 0;
const NFULNL_MSG_CONFIG = 1;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_CFG_QTHRESH = 5;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_COPY_PACKET = 2;
const NFULA_PACKET_HDR = 1;
const NFULA_IFINDEX_INDEV = 4;
const NFULA_IFINDEX_OUTDEV = 5;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
/** So many packets wait in the kernel for each other, and so long in hundredths of a second. */
const BATCH = { packets: 16, hundredths: 20 };

/** struct nfgenmsg */
const HEADER = 4;

/** Has the group's packets come to the socket that sends this, `bytes` of each at most. EPERM, EBUSY: somebody has it. */
export function bindLogGroup(group: number, bytes: number): Request[] {
  // struct nfulnl_msg_config_mode: be32 range, u8 mode, u8 pad.
  const mode = new Uint8Array(6);
  new DataView(mode.buffer).setUint32(0, bytes);
  mode[4] = NFULNL_COPY_PACKET;
  const what = `listen to group ${group} of NFLOG`;
  return [
    configure(group, what, (body) => body.attrU8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND)),
    configure(group, what, (body) =>
      body
        .attr(NFULA_CFG_MODE, mode)
        .attrU32be(NFULA_CFG_QTHRESH, BATCH.packets)
        .attrU32be(NFULA_CFG_TIMEOUT, BATCH.hundredths),
    ),
  ];
}

function configure(group: number, what: string, fill: (body: Body) => Body): Request {
  const body = new Body()
    .u8(0)
    .u8(0)
    .u8(group >> 8)
    .u8(group & 0xff);
  return { type: (NFNL_SUBSYS_ULOG << 8) | NFULNL_MSG_CONFIG, flags: NLM_F_ACK, body: fill(body).done(), what };
}

/** A packet that a rule has sampled. */
export interface LoggedPacket {
  /** What the rule says. */
  readonly prefix: string;
  /** NF_INET_*. */
  readonly hook: number;
  /** Indexes of the links it came in by and would go out by; 0 where there is none. */
  readonly inLink: number;
  readonly outLink: number;
  /** From the network header on. A view. */
  readonly payload: Uint8Array;
}

/** undefined for what is no packet. */
export function decodeLogged({ type, body }: Message): LoggedPacket | undefined {
  if (type !== ((NFNL_SUBSYS_ULOG << 8) | NFULNL_MSG_PACKET)) return undefined;
  const found = attributes(body.subarray(HEADER));
  const payload = found.get(NFULA_PAYLOAD);
  if (payload === undefined) return undefined;
  const prefix = found.get(NFULA_PREFIX);
  return {
    prefix: prefix === undefined ? "" : attrText(prefix),
    // struct nfulnl_msg_packet_hdr: be16 protocol, u8 hook, u8 pad.
    hook: found.get(NFULA_PACKET_HDR)?.[2] ?? -1,
    inLink: index(found.get(NFULA_IFINDEX_INDEV)),
    outLink: index(found.get(NFULA_IFINDEX_OUTDEV)),
    payload,
  };
}

function index(value: Uint8Array | undefined): number {
  if (value === undefined || value.length < 4) return 0;
  return new DataView(value.buffer, value.byteOffset).getUint32(0);
}
