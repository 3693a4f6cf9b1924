// SPDX-License-Identifier: Apache-2.0
//
// Netlink messages as bytes (RFC 3549; include/uapi/linux/netlink.h). Pure, and shared by the plugin's blocking transport
// and the daemon's event-loop one. Numbers are in host byte order, which is little endian on both architectures.
import { errnoName } from "../sys/errno.ts";

export const NLM_F_REQUEST = 0x1;
export const NLM_F_MULTI = 0x2;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
/** In an acknowledgement: the request was not copied into it. */
const NLM_F_CAPPED = 0x100;
/** In an acknowledgement: attributes with more about the error follow. */
const NLM_F_ACK_TLVS = 0x200;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

const NLMSGERR_ATTR_MSG = 1;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const HEADER = 16;

/** One request to the kernel, without header. `what` is for people: "add address 10.244.1.7/32 to eth0". */
export interface Request {
  readonly type: number;
  /** NLM_F_* besides NLM_F_REQUEST and NLM_F_ACK, which the transport adds. */
  readonly flags: number;
  readonly body: Uint8Array;
  readonly what: string;
  /** An errno that is as good as success, by name: what the request is to bring about is so already. */
  readonly tolerates?: string;
}

/** One message from the kernel. `body` is a view into the buffer that was parsed. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  /** nlmsg_pid. Of a notification: the socket whose request caused it, 0 for the kernel itself. Of an answer: the asker's. */
  readonly port?: number;
  readonly body: Uint8Array;
}

/** The kernel refused a request. `code` is stable; `errno` its number and `errnoName` that number's name. */
export class NetlinkError extends Error {
  override readonly name = "NetlinkError";
  readonly code: "NETLINK_REFUSED" | "NETLINK_PROTOCOL" | "NETLINK_TIMEOUT" | "NETLINK_INTERRUPTED" | "NETLINK_OVERRUN";
  readonly errno: number;
  readonly errnoName: string;
  constructor(code: NetlinkError["code"], message: string, errno = 0, cause?: unknown) {
    super(message, { cause });
    this.code = code;
    this.errno = errno;
    this.errnoName = errno === 0 ? "" : errnoName(errno);
  }

  /** The kernel's answer to a request: the errno's name and its extended text where it gave one. */
  static refused(what: string, errno: number, text: string): NetlinkError {
    return new NetlinkError("NETLINK_REFUSED", `${what}: ${errnoName(errno)}${text === "" ? "" : ` (${text})`}`, errno);
  }
}

/** What the kernel's answer to a request says against it; undefined when it was granted, or as good as granted. */
export function refusal(request: Request, errno: number, text: string): NetlinkError | undefined {
  if (errno === 0) return undefined;
  const error = NetlinkError.refused(request.what, errno, text);
  return error.errnoName === request.tolerates ? undefined : error;
}

/** Builds the body of a request: fixed header fields, then attributes, each padded to four bytes. */
export class Body {
  /** Of 64 bytes, which V8 keeps in its own heap, and which most messages about routes fit in. */
  private bytes = new Uint8Array(64);
  private view = new DataView(this.bytes.buffer);
  private length = 0;

  private grow(by: number): number {
    const at = this.length;
    this.length += by;
    if (this.length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.length, 2 * this.bytes.length));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  u8(value: number): this {
    const at = this.grow(1);
    this.view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.grow(2);
    this.view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.grow(4);
    this.view.setUint32(at, value, true);
    return this;
  }

  raw(value: Uint8Array): this {
    const at = this.grow(value.length);
    this.bytes.set(value, at);
    return this;
  }

  /** struct nlattr and its value. @throws NetlinkError NETLINK_PROTOCOL when the 16 bits of its length are too few. */
  attr(type: number, value: Uint8Array): this {
    this.u16(attrLength(type, 4 + value.length)).u16(type);
    return this.raw(value).pad();
  }

  attrU8(type: number, value: number): this {
    return this.u16(5).u16(type).u8(value).pad();
  }

  attrU32(type: number, value: number): this {
    return this.u16(8).u16(type).u32(value);
  }

  /** A 32-bit attribute in network order, as nfnetlink has them. */
  attrU32be(type: number, value: number): this {
    this.u16(8).u16(type);
    const at = this.grow(4);
    this.view.setUint32(at, value, false);
    return this;
  }

  /** A string with the zero at its end. */
  attrText(type: number, text: string): this {
    return this.attr(type, new TextEncoder().encode(`${text}\0`));
  }

  /** An attribute that holds attributes. `flag` false leaves NLA_F_NESTED out, as rtnetlink's older attributes have it. */
  nest(type: number, fill: (body: this) => void, flag = false): this {
    const at = this.length;
    this.u16(0).u16(flag ? type | NLA_F_NESTED : type);
    fill(this);
    this.view.setUint16(at, attrLength(type, this.length - at), true);
    return this;
  }

  private pad(): this {
    this.grow((4 - (this.length & 3)) & 3);
    return this;
  }

  done(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

/** nla_len has 16 bits; a longer one would be written as something else, and what follows would be read as attributes. */
function attrLength(type: number, length: number): number {
  if (length <= 0xffff) return length;
  throw new NetlinkError("NETLINK_PROTOCOL", `netlink attribute ${type} has ${length} bytes, over 65535`);
}

/** The requests one after the other, with sequence numbers counting up from `firstSeq` and an acknowledgement asked of each. */
export function encodeBatch(requests: readonly Request[], firstSeq: number, extraFlags = NLM_F_ACK): Uint8Array {
  let size = 0;
  for (const { body } of requests) size += (HEADER + body.length + 3) & ~3;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (let i = 0; i < requests.length; i++) {
    const { type, flags, body } = requests[i] as Request;
    view.setUint32(at, HEADER + body.length, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, flags | NLM_F_REQUEST | extraFlags, true);
    view.setUint32(at + 8, (firstSeq + i) >>> 0, true);
    bytes.set(body, at + HEADER);
    at += (HEADER + body.length + 3) & ~3;
  }
  return bytes;
}

/**
 * What one datagram from the kernel holds.
 * @throws NetlinkError NETLINK_PROTOCOL when a length doesn't fit the datagram.
 */
export function decodeMessages(datagram: Uint8Array): Message[] {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const messages: Message[] = [];
  let at = 0;
  while (at < datagram.length) {
    const rest = datagram.length - at;
    const length = rest < HEADER ? 0 : view.getUint32(at, true);
    if (length < HEADER || length > rest) {
      throw new NetlinkError("NETLINK_PROTOCOL", `a netlink message of ${length} bytes where ${rest} are left`);
    }
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      seq: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: datagram.subarray(at + HEADER, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/**
 * The errno (0 for success) and the kernel's extended text of an NLMSG_ERROR or NLMSG_DONE message.
 * @throws NetlinkError NETLINK_PROTOCOL when there is no errno in it: no answer is not a good one.
 */
export function decodeAck(message: Message): { errno: number; text: string } {
  const { body, flags, type } = message;
  if (body.length < 4) {
    throw new NetlinkError("NETLINK_PROTOCOL", `a netlink acknowledgement of ${body.length} bytes has no errno`);
  }
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const errno = 0 - view.getInt32(0, true);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, text: "" };
  // struct nlmsgerr is the errno and the request's header, followed by the request itself unless NETLINK_CAP_ACK.
  let at = 4;
  if (type === NLMSG_ERROR) {
    if (body.length < 4 + HEADER) return { errno, text: "" };
    at += (flags & NLM_F_CAPPED) !== 0 ? HEADER : (view.getUint32(4, true) + 3) & ~3;
  }
  if (at > body.length) return { errno, text: "" };
  const text = attributes(body.subarray(at)).get(NLMSGERR_ATTR_MSG);
  return { errno, text: text === undefined ? "" : attrText(text) };
}

/** The attributes in a stretch of bytes, by type; of two with one type the later. What doesn't fit ends the list. */
export function attributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) break;
    found.set(view.getUint16(at + 2, true) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

/** A 32-bit attribute in host order; undefined when absent or short. */
export function attrU32(value: Uint8Array | undefined): number | undefined {
  if (value === undefined || value.length < 4) return undefined;
  return new DataView(value.buffer, value.byteOffset, value.byteLength).getUint32(0, true);
}

/** A string attribute up to its zero. */
export function attrText(value: Uint8Array): string {
  const end = value.indexOf(0);
  return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
}
