// SPDX-License-Identifier: Apache-2.0
//
// One unary gRPC call on a connection of its own, without any input or output: bytes from the peer go in, bytes for the
// peer come out. The driver (client.ts) moves them. It is written by hand because every gRPC library costs the plugin 30 ms
// of start-up, more than all of its work (gRPC's PROTOCOL-HTTP2.md on RFC 9113). Part of the plugin's hot path.
import {
  concat,
  contentOf,
  DEFAULT_MAX_FRAME,
  DEFAULT_WINDOW,
  errorName,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_PUSH_PROMISE,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  type Frame,
  FrameError,
  FrameReader,
  frame,
  MAX_WINDOW,
  PREFACE,
  parseSettings,
  putUint32,
  SETTINGS_ENABLE_PUSH,
  SETTINGS_HEADER_TABLE_SIZE,
  SETTINGS_INITIAL_WINDOW_SIZE,
  SETTINGS_MAX_HEADER_LIST_SIZE,
  settingsFrame,
  uint32,
  windowUpdateFrame,
} from "./frames.ts";
import { decodeHeaderBlock, encodeHeaderBlock, type HeaderField, HpackError, MAX_HEADER_LIST } from "./hpack.ts";
import { Status, statusOfHttp, statusOfReset } from "./status.ts";

/** What to ask of whom. */
export interface UnaryRequest {
  /** Value of :authority. Nobody reads it on a unix socket, but it must be there. */
  readonly authority: string;
  /** "/package.Service/Method". */
  readonly path: string;
  /** The request, encoded. */
  readonly message: Uint8Array;
  /** How long the server may work on it, in milliseconds; sent as grpc-timeout. */
  readonly timeoutMs: number;
  /** A larger response is RESOURCE_EXHAUSTED, and never held in memory. */
  readonly maxResponseBytes: number;
  /** Further fields, lower-case names and printable ASCII values, such as traceparent. */
  readonly metadata?: readonly HeaderField[];
}

/** How a call ended. */
export interface UnaryResult {
  /** gRPC status, 0 to 16. */
  readonly code: number;
  /** What the server, or for want of its word this client, says about a status that is not OK; empty with OK. */
  readonly message: string;
  /** The response, encoded; there exactly when the status is OK. */
  readonly response?: Uint8Array;
  /**
   * True when the connection failed, and not the call: an idempotent call can be made again on a new one. The server may or
   * may not have done what was asked.
   */
  readonly transport: boolean;
  /** True when status and message are the server's own words, and not what this client made of its bytes. */
  readonly answered: boolean;
}

/** The call's stream; a client's first. */
const STREAM = 1;

/**
 * Bytes that the server may have in flight to us, for the stream and for the connection. Most responses fit whole, so no
 * WINDOW_UPDATE is needed but the one in the opening bytes.
 */
const RECEIVE_WINDOW = 1 << 20;

/** Bytes before a message in a gRPC stream: the compressed flag and the length. */
const PREFIX_LENGTH = 5;

const NOTHING = new Uint8Array(0);

/**
 * One call. Send what `start` and `receive` return, hand in what the peer sends, until `result` is there; say `closed` at
 * the end of the peer's bytes. Nothing that a peer sends makes it throw.
 */
export class UnaryCall {
  /** Undefined until the call is over; final then. */
  result: UnaryResult | undefined;

  private readonly headers: Uint8Array;
  private readonly maxResponseBytes: number;
  private readonly reader = new FrameReader();
  private out: Uint8Array[] = [];

  /** The request with its prefix, and how much of it was sent. */
  private readonly body: Uint8Array;
  private sent = 0;
  private connectionWindow = DEFAULT_WINDOW;
  private streamWindow = DEFAULT_WINDOW;
  private peerInitialWindow = DEFAULT_WINDOW;
  private peerMaxFrame = DEFAULT_MAX_FRAME;

  /** Bytes of DATA that came since the last WINDOW_UPDATE. */
  private unacknowledged = 0;
  /** The header block of a HEADERS frame that goes on in CONTINUATION frames. */
  private block: Uint8Array[] | undefined;
  private blockLength = 0;
  private blockEndsStream = false;
  private headersSeen = false;
  private readonly prefix = new Uint8Array(PREFIX_LENGTH);
  private prefixFilled = 0;
  private response: Uint8Array | undefined;
  private responseFilled = 0;
  private goaway = "";

  /** @throws HpackError HPACK_FIELD when authority, path or metadata cannot be sent */
  constructor(request: UnaryRequest) {
    this.maxResponseBytes = request.maxResponseBytes;
    this.body = new Uint8Array(PREFIX_LENGTH + request.message.length);
    putUint32(this.body, 1, request.message.length);
    this.body.set(request.message, PREFIX_LENGTH);
    const fields: HeaderField[] = [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", request.path],
      [":authority", request.authority],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
      ["grpc-timeout", grpcTimeout(request.timeoutMs)],
    ];
    if (request.metadata !== undefined) for (const field of request.metadata) fields.push(field);
    this.headers = encodeHeaderBlock(fields);
    if (this.headers.length > DEFAULT_MAX_FRAME) {
      throw new HpackError("HPACK_FIELD", `metadata of ${this.headers.length} bytes do not fit into one HEADERS frame`);
    }
  }

  /** The opening bytes: everything up to the request's end, or to the end of the first flow-control window. */
  start(): Uint8Array {
    const preface = new Uint8Array(PREFACE.length);
    for (let i = 0; i < PREFACE.length; i++) preface[i] = PREFACE.charCodeAt(i);
    this.out.push(
      preface,
      settingsFrame([
        [SETTINGS_HEADER_TABLE_SIZE, 0],
        [SETTINGS_ENABLE_PUSH, 0],
        [SETTINGS_INITIAL_WINDOW_SIZE, RECEIVE_WINDOW],
        [SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST],
      ]),
      windowUpdateFrame(0, RECEIVE_WINDOW - DEFAULT_WINDOW),
      frame(FRAME_HEADERS, FLAG_END_HEADERS, STREAM, this.headers),
    );
    this.sendData();
    return this.takeOut();
  }

  /** Takes any piece of what the peer sends; returns what must be sent back, often nothing. */
  receive(bytes: Uint8Array): Uint8Array {
    if (this.result !== undefined) return NOTHING;
    try {
      this.reader.push(bytes);
      while (this.result === undefined) {
        const next = this.reader.next();
        if (next === undefined) break;
        this.onFrame(next);
      }
    } catch (error) {
      if (error instanceof FrameError) this.fail(Status.INTERNAL, `malformed reply: ${error.message}`);
      else if (error instanceof HpackError) {
        this.fail(
          error.code === "HPACK_TOO_LARGE" ? Status.RESOURCE_EXHAUSTED : Status.INTERNAL,
          `malformed reply: ${error.message}`,
        );
      } else throw error;
    }
    if (this.result !== undefined) return NOTHING;
    return this.takeOut();
  }

  /** The peer's bytes are at their end. */
  closed(): void {
    if (this.result !== undefined) return;
    const when = this.headersSeen ? "half-way through its reply" : "before it replied";
    this.fail(Status.UNAVAILABLE, `the server closed the connection ${when}${this.goaway}`, true);
  }

  private onFrame(next: Frame): void {
    const { type, flags, stream, payload } = next;
    if (this.block !== undefined && (type !== FRAME_CONTINUATION || stream !== STREAM)) {
      throw new FrameError("a header block interrupted by another frame");
    }
    switch (type) {
      case FRAME_DATA:
        assertOurStream(stream, "DATA");
        this.onData(next);
        return;
      case FRAME_HEADERS:
        assertOurStream(stream, "HEADERS");
        this.block = [];
        this.blockLength = 0;
        this.blockEndsStream = (flags & FLAG_END_STREAM) !== 0;
        this.onBlock(contentOf(next), flags);
        return;
      case FRAME_CONTINUATION:
        if (this.block === undefined) throw new FrameError("a CONTINUATION frame without HEADERS");
        this.onBlock(payload, flags);
        return;
      case FRAME_RST_STREAM:
        assertOurStream(stream, "RST_STREAM");
        assertLength(payload.length === 4, "RST_STREAM", payload);
        this.onReset(uint32(payload, 0));
        return;
      case FRAME_SETTINGS:
        assertConnection(stream, "SETTINGS");
        if (flags & FLAG_ACK) {
          assertLength(payload.length === 0, "SETTINGS ACK", payload);
          return;
        }
        this.onSettings(payload);
        return;
      case FRAME_PING:
        assertConnection(stream, "PING");
        assertLength(payload.length === 8, "PING", payload);
        if (!(flags & FLAG_ACK)) this.out.push(frame(FRAME_PING, FLAG_ACK, 0, payload));
        return;
      case FRAME_GOAWAY:
        assertConnection(stream, "GOAWAY");
        assertLength(payload.length >= 8, "GOAWAY", payload);
        this.onGoaway(payload);
        return;
      case FRAME_WINDOW_UPDATE:
        assertLength(payload.length === 4, "WINDOW_UPDATE", payload);
        this.onWindowUpdate(stream, uint32(payload, 0) & 0x7fffffff);
        return;
      case FRAME_PUSH_PROMISE:
        throw new FrameError("a PUSH_PROMISE frame though push is off");
      default:
        // PRIORITY says nothing to a client, and unknown types must be ignored (section 4.1).
        return;
    }
  }

  private onSettings(payload: Uint8Array): void {
    const { initialWindow, maxFrame } = parseSettings(payload);
    if (initialWindow !== undefined) {
      this.streamWindow += initialWindow - this.peerInitialWindow; // may become negative, section 6.9.2
      this.peerInitialWindow = initialWindow;
      if (this.streamWindow > MAX_WINDOW) throw new FrameError("SETTINGS that overflow the flow-control window");
    }
    if (maxFrame !== undefined) this.peerMaxFrame = maxFrame;
    this.out.push(frame(FRAME_SETTINGS, FLAG_ACK, 0, NOTHING));
    this.sendData();
  }

  private onWindowUpdate(stream: number, increment: number): void {
    if (increment === 0) throw new FrameError("a WINDOW_UPDATE frame of 0");
    if (stream === 0) this.connectionWindow += increment;
    else {
      assertOurStream(stream, "WINDOW_UPDATE");
      this.streamWindow += increment;
    }
    if (this.connectionWindow > MAX_WINDOW || this.streamWindow > MAX_WINDOW) {
      throw new FrameError("a WINDOW_UPDATE frame that overflows the flow-control window");
    }
    this.sendData();
  }

  /** Sends of the request what both windows allow. */
  private sendData(): void {
    while (this.sent < this.body.length) {
      const room = Math.min(this.connectionWindow, this.streamWindow, this.peerMaxFrame);
      if (room <= 0) return;
      const end = Math.min(this.sent + room, this.body.length);
      const flags = end === this.body.length ? FLAG_END_STREAM : 0;
      this.out.push(frame(FRAME_DATA, flags, STREAM, this.body.subarray(this.sent, end)));
      this.connectionWindow -= end - this.sent;
      this.streamWindow -= end - this.sent;
      this.sent = end;
    }
  }

  private onBlock(piece: Uint8Array, flags: number): void {
    const block = this.block as Uint8Array[];
    this.blockLength += piece.length;
    if (this.blockLength > MAX_HEADER_LIST) {
      throw new HpackError("HPACK_TOO_LARGE", `headers larger than ${MAX_HEADER_LIST} bytes`);
    }
    if (flags & FLAG_END_HEADERS) {
      block.push(piece);
      this.block = undefined;
      this.onHeaders(decodeHeaderBlock(concat(block)));
    } else if (piece.length > 0) {
      block.push(piece.slice()); // the reader's buffer does not outlive the next push
    }
  }

  private onHeaders(fields: readonly HeaderField[]): void {
    const last = this.blockEndsStream;
    if (this.headersSeen) {
      if (!last) throw new FrameError("trailers that do not end the stream");
      if (fieldValue(fields, ":status") !== undefined) throw new FrameError("trailers with a :status");
      this.finish(fields, "the server sent trailers without grpc-status", Status.UNKNOWN);
      return;
    }
    const status = fieldValue(fields, ":status");
    if (status === undefined) throw new FrameError("response headers without :status");
    if (status.length === 3 && status.startsWith("1")) {
      if (last) throw new FrameError("an informational response that ends the stream");
      return;
    }
    this.headersSeen = true;
    const type = fieldValue(fields, "content-type") ?? "";
    const failure =
      status !== "200"
        ? `the server replied with HTTP status ${printable(status)}`
        : type.startsWith("application/grpc")
          ? ""
          : `the server replied with content-type ${JSON.stringify(printable(type))}, which is not gRPC`;
    if (last) {
      // Trailers only. A grpc-status overrules everything else.
      this.finish(fields, failure || "the server replied without grpc-status", statusOfHttp(status));
      return;
    }
    if (failure !== "") {
      this.fail(statusOfHttp(status), failure);
      return;
    }
    const encoding = fieldValue(fields, "grpc-encoding") ?? "identity";
    if (encoding !== "identity") {
      this.fail(
        Status.INTERNAL,
        `the server compressed its reply with ${JSON.stringify(printable(encoding))}, unasked`,
      );
    }
  }

  private onData(next: Frame): void {
    if (!this.headersSeen) throw new FrameError("a DATA frame before the response headers");
    // Padding counts too, section 6.9.1.
    this.unacknowledged += next.payload.length;
    this.onMessageBytes(contentOf(next));
    if (this.result !== undefined) return;
    if (next.flags & FLAG_END_STREAM) {
      this.fail(Status.UNKNOWN, "the server ended its reply without trailers, so without grpc-status");
      return;
    }
    if (this.unacknowledged >= RECEIVE_WINDOW / 2) {
      this.out.push(windowUpdateFrame(0, this.unacknowledged), windowUpdateFrame(STREAM, this.unacknowledged));
      this.unacknowledged = 0;
    }
  }

  private onMessageBytes(content: Uint8Array): void {
    let at = 0;
    while (this.prefixFilled < PREFIX_LENGTH && at < content.length) {
      this.prefix[this.prefixFilled++] = content[at++] as number;
      if (this.prefixFilled === PREFIX_LENGTH) this.onPrefix();
    }
    if (at === content.length || this.response === undefined) return;
    const piece = content.subarray(at);
    if (piece.length > this.response.length - this.responseFilled) {
      this.fail(Status.INTERNAL, "the server sent more than one message");
      return;
    }
    this.response.set(piece, this.responseFilled);
    this.responseFilled += piece.length;
  }

  private onPrefix(): void {
    const flag = this.prefix[0] as number;
    const length = uint32(this.prefix, 1);
    if (flag !== 0) {
      const what = flag === 1 ? "the server compressed its reply, unasked" : `a message with compressed flag ${flag}`;
      this.fail(Status.INTERNAL, what);
    } else if (length > this.maxResponseBytes) {
      const most = this.maxResponseBytes;
      this.fail(Status.RESOURCE_EXHAUSTED, `the response has ${length} bytes, more than the ${most} allowed`);
    } else {
      this.response = new Uint8Array(length);
    }
  }

  /** Ends the call with the status in the fields, or with the given one when they have none. */
  private finish(fields: readonly HeaderField[], without: string, code: number): void {
    const text = fieldValue(fields, "grpc-status");
    if (text === undefined) {
      this.fail(code, without);
      return;
    }
    const message = percentDecode(fieldValue(fields, "grpc-message") ?? "");
    const status = parseStatus(text);
    if (status === undefined) {
      const what = `the server sent grpc-status ${JSON.stringify(printable(text))}`;
      this.fail(Status.UNKNOWN, message === "" ? what : `${what}: ${message}`);
      return;
    }
    if (status !== Status.OK) {
      this.result = { code: status, message, transport: false, answered: true };
      return;
    }
    if (this.response === undefined) {
      const what = this.prefixFilled === 0 ? "without a message" : "with a message cut short";
      this.fail(Status.INTERNAL, `the server replied OK ${what}`);
      return;
    }
    if (this.responseFilled !== this.response.length) {
      this.fail(Status.INTERNAL, "the server replied OK with a message cut short");
      return;
    }
    this.result = { code: Status.OK, message: "", response: this.response, transport: false, answered: true };
  }

  private onReset(errorCode: number): void {
    // A server that refuses or cancels, and was not asked to, is on its way down.
    const transport = errorCode === 0x7 || errorCode === 0x8;
    this.fail(
      statusOfReset(errorCode),
      `the server reset the stream: ${errorName(errorCode)}${this.goaway}`,
      transport,
    );
  }

  private onGoaway(payload: Uint8Array): void {
    const lastStream = uint32(payload, 0) & 0x7fffffff;
    const debug = ascii(payload.subarray(8, 8 + 128));
    this.goaway = ` (GOAWAY ${errorName(uint32(payload, 4))}${debug === "" ? "" : ` ${JSON.stringify(debug)}`})`;
    // Otherwise our stream goes on to its end.
    if (lastStream >= STREAM) return;
    this.fail(Status.UNAVAILABLE, `the server is shutting down and did not take the call${this.goaway}`, true);
  }

  private fail(code: number, message: string, transport = false): void {
    this.result ??= { code, message, transport, answered: false };
  }

  private takeOut(): Uint8Array {
    const { out } = this;
    if (out.length === 0) return NOTHING;
    this.out = [];
    return concat(out);
  }
}

function assertOurStream(stream: number, what: string): void {
  if (stream !== STREAM) throw new FrameError(`${what} on stream ${stream}, which is not open`);
}

function assertConnection(stream: number, what: string): void {
  if (stream !== 0) throw new FrameError(`${what} on stream ${stream}`);
}

function assertLength(good: boolean, what: string, payload: Uint8Array): void {
  if (!good) throw new FrameError(`a ${what} frame of ${payload.length} bytes`);
}

/** At most 8 digits and a unit (PROTOCOL-HTTP2.md); never 0, which would be over before it began. */
function grpcTimeout(timeoutMs: number): string {
  const ms = Math.max(1, Math.ceil(timeoutMs));
  return ms < 1e8 ? `${ms}m` : `${Math.min(Math.ceil(ms / 1000), 99_999_999)}S`;
}

function fieldValue(fields: readonly HeaderField[], name: string): string | undefined {
  for (const field of fields) if (field[0] === name) return field[1];
  return undefined;
}

/** A decimal status code that we know; one that we do not know is the caller's UNKNOWN. */
function parseStatus(text: string): number | undefined {
  if (text.length < 1 || text.length > 2) return undefined;
  let code = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return undefined;
    code = code * 10 + digit;
  }
  return code <= Status.UNAUTHENTICATED ? code : undefined;
}

/** grpc-message to text: percent-encoded UTF-8. What is not well-formed stays as it is, as the document asks. */
function percentDecode(value: string): string {
  const bytes = new Uint8Array(value.length);
  let length = 0;
  let plain = true;
  for (let i = 0; i < value.length; i++) {
    let byte = value.charCodeAt(i);
    if (byte === 0x25) {
      const high = hexDigit(value.charCodeAt(i + 1));
      const low = hexDigit(value.charCodeAt(i + 2));
      if (high >= 0 && low >= 0) {
        byte = high * 16 + low;
        i += 2;
        plain = false;
      }
    }
    if (byte > 0x7e) plain = false;
    bytes[length++] = byte;
  }
  return plain ? value : new TextDecoder().decode(bytes.subarray(0, length));
}

/** Value of a hexadecimal digit's character code, or -1; NaN, which is behind the end, too. */
function hexDigit(c: number): number {
  if (c >= 48 && c <= 57) return c - 48;
  const lower = c | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function ascii(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : "?";
  return text;
}

/** A peer's text, short enough for a message. */
function printable(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}
