// SPDX-License-Identifier: Apache-2.0
//
// The frames of HTTP/2 (RFC 9113, sections 4 and 6) that one unary call needs: writing ours, and reading a peer's from
// bytes that come in any pieces. Pure; part of the plugin's hot path.

/** Frame types, section 6. */
export const FRAME_DATA = 0x0;
export const FRAME_HEADERS = 0x1;
export const FRAME_RST_STREAM = 0x3;
export const FRAME_SETTINGS = 0x4;
export const FRAME_PUSH_PROMISE = 0x5;
export const FRAME_PING = 0x6;
export const FRAME_GOAWAY = 0x7;
export const FRAME_WINDOW_UPDATE = 0x8;
export const FRAME_CONTINUATION = 0x9;

/** Frame flags. ACK is that of SETTINGS and PING; it shares its bit with END_STREAM. */
export const FLAG_ACK = 0x1;
export const FLAG_END_STREAM = 0x1;
export const FLAG_END_HEADERS = 0x4;
const FLAG_PADDED = 0x8;
const FLAG_PRIORITY = 0x20;

/** Settings, section 6.5.2. */
export const SETTINGS_HEADER_TABLE_SIZE = 0x1;
export const SETTINGS_ENABLE_PUSH = 0x2;
export const SETTINGS_INITIAL_WINDOW_SIZE = 0x4;
export const SETTINGS_MAX_FRAME_SIZE = 0x5;
export const SETTINGS_MAX_HEADER_LIST_SIZE = 0x6;

/** What a connection begins with before any SETTINGS, in both directions: bytes of a flow-control window, and of a frame. */
export const DEFAULT_WINDOW = 65535;
export const DEFAULT_MAX_FRAME = 16384;
/** The largest window and the largest frame there may be. */
export const MAX_WINDOW = 0x7fffffff;
const MAX_MAX_FRAME = 0xffffff;

/** What a client says first, section 3.4. */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** A peer that breaks the rules of HTTP/2. `code` is stable; the message says what it sent. */
export class FrameError extends Error {
  override readonly name = "FrameError";
  readonly code = "HTTP2_PROTOCOL";
}

/** A frame; the payload lies in the reader's buffer and is valid until bytes are pushed again. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** Bytes of a frame's header. */
const HEADER_LENGTH = 9;

/** Cuts what a peer sends into frames. It holds no more than what was pushed last and one unfinished frame. */
export class FrameReader {
  private held: Uint8Array = new Uint8Array(0);
  private at = 0;
  private first = true;

  /** Adds bytes; they are read in place until they are used up or more are pushed, so they must not change before. */
  push(bytes: Uint8Array): void {
    if (this.at === this.held.length) this.held = bytes;
    else this.held = concat([this.held.subarray(this.at), bytes]);
    this.at = 0;
  }

  /**
   * The next frame that is complete. When there is none, what is left is copied, so the caller may use its buffer again.
   * @throws FrameError for a frame larger than the 16 KiB a peer may send us, or a peer whose first frame is not SETTINGS
   */
  next(): Frame | undefined {
    const { held, at } = this;
    if (held.length - at >= HEADER_LENGTH) {
      const type = held[at + 3] as number;
      if (this.first && type !== FRAME_SETTINGS) throw new FrameError("the peer does not speak HTTP/2");
      const length = uint32(held, at) >>> 8;
      if (length > DEFAULT_MAX_FRAME)
        throw new FrameError(`a frame of ${length} bytes, larger than the agreed maximum`);
      const start = at + HEADER_LENGTH;
      if (held.length - start >= length) {
        this.first = false;
        this.at = start + length;
        return {
          type,
          flags: held[at + 4] as number,
          stream: uint32(held, at + 5) & 0x7fffffff,
          payload: held.subarray(start, start + length),
        };
      }
    }
    this.held = held.slice(at);
    this.at = 0;
    return undefined;
  }
}

/** One frame as bytes. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH + payload.length);
  putUint32(bytes, 0, payload.length << 8);
  bytes[3] = type;
  bytes[4] = flags;
  putUint32(bytes, 5, stream);
  bytes.set(payload, HEADER_LENGTH);
  return bytes;
}

/** A SETTINGS frame of (setting, value) pairs, section 6.5. */
export function settingsFrame(settings: readonly (readonly [number, number])[]): Uint8Array {
  const payload = new Uint8Array(settings.length * 6);
  let at = 0;
  for (const [setting, value] of settings) {
    payload[at + 1] = setting;
    putUint32(payload, at + 2, value);
    at += 6;
  }
  return frame(FRAME_SETTINGS, 0, 0, payload);
}

/** A WINDOW_UPDATE frame, section 6.9; stream 0 is the connection. */
export function windowUpdateFrame(stream: number, increment: number): Uint8Array {
  const payload = new Uint8Array(4);
  putUint32(payload, 0, increment);
  return frame(FRAME_WINDOW_UPDATE, 0, stream, payload);
}

/** What a peer's SETTINGS mean for what we send; other settings bind only clients of other kinds, or servers. */
export interface PeerSettings {
  /** Bytes of a new stream's window. */
  initialWindow?: number;
  /** Bytes of the largest frame's payload. */
  maxFrame?: number;
}

/**
 * What a SETTINGS frame without ACK says.
 * @throws FrameError
 */
export function parseSettings(payload: Uint8Array): PeerSettings {
  if (payload.length % 6 !== 0) throw new FrameError(`a SETTINGS frame of ${payload.length} bytes`);
  const settings: PeerSettings = {};
  for (let at = 0; at < payload.length; at += 6) {
    const setting = uint32(payload, at) >>> 16;
    const value = uint32(payload, at + 2);
    if (setting === SETTINGS_INITIAL_WINDOW_SIZE) {
      if (value > MAX_WINDOW) throw new FrameError(`SETTINGS with an initial window of ${value}`);
      settings.initialWindow = value;
    } else if (setting === SETTINGS_MAX_FRAME_SIZE) {
      if (value < DEFAULT_MAX_FRAME || value > MAX_MAX_FRAME) {
        throw new FrameError(`SETTINGS with a maximum frame size of ${value}`);
      }
      settings.maxFrame = value;
    }
  }
  return settings;
}

/**
 * The payload of DATA or HEADERS without padding and, in HEADERS, without priority (sections 6.1 and 6.2).
 * @throws FrameError
 */
export function contentOf({ type, flags, payload }: Frame): Uint8Array {
  let start = 0;
  let end = payload.length;
  if (flags & FLAG_PADDED) {
    start = 1;
    end -= payload[0] ?? 0;
  }
  if (type === FRAME_HEADERS && flags & FLAG_PRIORITY) start += 5;
  if (start > end) throw new FrameError("a frame with more padding than payload");
  return payload.subarray(start, end);
}

/** The pieces in one array. A single piece is returned as it is. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0] as Uint8Array;
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** A 32-bit number in network order, unsigned. The caller knows that there are 4 bytes. */
export function uint32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/** Writes a 32-bit number in network order. */
export function putUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

const ERROR_NAMES =
  "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR " +
  "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED";

/** Name of an HTTP/2 error code, section 7. */
export function errorName(code: number): string {
  return ERROR_NAMES.split(" ")[code] ?? `error ${code}`;
}
