// SPDX-License-Identifier: Apache-2.0
//
// The event-loop transport on a kernel of objects. What the real one answers is in event-loop.kernel.test.ts; here is what
// it can't be made to do: interrupt dumps at will, lose answers, fail sends.
import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Netlink } from "./event-loop.ts";
import {
  Body,
  decodeMessages,
  type Message,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  type Request,
} from "./message.ts";

const EPERM = 1;
const EEXIST = 17;
const KERNEL = 0;

/** What the kernel does with a batch: the datagrams it answers. */
let kernel: (batch: readonly Message[]) => readonly Uint8Array[];
let sent: Message[][];
let socket: { emit(event: string, ...args: unknown[]): boolean };

vi.mock("netlink/dist/raw.js", () => ({
  RawNetlinkSocket: class extends EventEmitter {
    #closed = false;
    constructor() {
      super();
      socket = this;
    }
    send(bytes: Uint8Array, _options: object, done: (error?: Error) => void): void {
      if (this.#closed) throw new Error("Netlink socket is closed");
      const batch = decodeMessages(bytes.slice());
      sent.push(batch);
      queueMicrotask(() => {
        done();
        // The addon gives Buffers, whose slice() is no copy.
        for (const { buffer, byteOffset, length } of kernel(batch)) {
          this.emit("message", Buffer.from(buffer, byteOffset, length), { port: KERNEL });
        }
      });
    }
    close(): void {
      this.#closed = true;
    }
  },
}));

beforeEach(() => {
  sent = [];
  kernel = (batch) => batch.map((message) => acknowledge(message));
});
afterEach(() => {
  vi.useRealTimers();
});

function message(type: number, seq: number, body: Uint8Array, flags = 0): Uint8Array {
  return new Body()
    .u32(16 + body.length)
    .u16(type)
    .u16(flags)
    .u32(seq)
    .u32(0)
    .raw(body)
    .done();
}

function acknowledge({ seq }: Message, errno = 0): Uint8Array {
  return message(NLMSG_ERROR, seq, new Body().u32(-errno).u32(0).u32(0).u32(0).u32(0).done());
}

function done({ seq }: Message, errno = 0, flags = 0): Uint8Array {
  return message(NLMSG_DONE, seq, new Body().u32(-errno).done(), flags);
}

function request(what: string, body = new Uint8Array(4)): Request {
  return { type: 24, flags: 0, body, what };
}

test("each request has its own reply, in the order of the requests", async () => {
  const requests = [1, 2, 3].map((n) => request(`r${n}`, new Uint8Array([n, 0, 0, 0])));
  kernel = (batch) => batch.flatMap((m) => [message(16, m.seq, m.body), acknowledge(m, m.body[0] === 2 ? EEXIST : 0)]);
  const replies = await Netlink.open(0).submit(requests);
  expect(replies.map(({ request, answers, error }) => [request.what, answers[0]?.body[0], error?.errnoName])).toEqual([
    ["r1", 1, undefined],
    ["r2", 2, "EEXIST"],
    ["r3", 3, undefined],
  ]);
});

test("many requests go in batches, all of them and each once", async () => {
  const requests = Array.from({ length: 1000 }, (_, i) => request(`r${i}`));
  const replies = await Netlink.open(0).submit(requests);
  expect(replies.map(({ request }) => request.what)).toEqual(requests.map(({ what }) => what));
  expect(new Set(sent.flat().map(({ seq }) => seq)).size).toBe(1000);
  for (const batch of sent) expect(batch.length).toBeLessThanOrEqual(64);
});

test("request throws the first refusal, after all have been tried", async () => {
  kernel = (batch) => batch.map((m, i) => acknowledge(m, i > 0 ? EEXIST : 0));
  await expect(Netlink.open(0).request([request("a"), request("b"), request("c")])).rejects.toThrow("b: EEXIST");
  expect(sent.flat()).toHaveLength(3);
});

test("nothing to ask is nothing sent", async () => {
  expect(await Netlink.open(0).submit([])).toEqual([]);
  expect(sent).toEqual([]);
});

test("answers outlive the buffer they came in", async () => {
  const buffer = new Uint8Array(64);
  kernel = ([m]) => {
    buffer.set(message(16, m?.seq ?? 0, new Uint8Array([7])));
    return [buffer.subarray(0, 17), acknowledge(m as Message)];
  };
  const [reply] = await Netlink.open(0).submit([request("a")]);
  buffer.fill(0xff);
  expect([...(reply?.answers[0]?.body ?? [])]).toEqual([7]);
});

test("only the kernel is listened to", async () => {
  kernel = (batch) => {
    for (const m of batch) socket.emit("message", acknowledge(m, EPERM), { port: 4711 });
    return batch.map((m) => acknowledge(m));
  };
  const [reply] = await Netlink.open(0).submit([request("a")]);
  expect(reply?.error).toBeUndefined();
});

test("answers that nobody waits for are passed over", async () => {
  kernel = (batch) =>
    batch.flatMap((m) => [
      acknowledge({ ...m, seq: 0 }, EPERM),
      acknowledge({ ...m, seq: 9999 }, EPERM),
      acknowledge(m),
    ]);
  const [reply] = await Netlink.open(0).submit([request("a")]);
  expect(reply?.error).toBeUndefined();
});

test("a dump is everything up to its end, asked for as a dump and without an acknowledgement", async () => {
  kernel = ([m]) => (m ? [1, 2].map((n) => message(24, m.seq, new Uint8Array([n]))).concat(done(m)) : []);
  const messages = await Netlink.open(0).dump(request("list"));
  expect(messages.map(({ body }) => body[0])).toEqual([1, 2]);
  expect((sent[0]?.[0]?.flags ?? 0) & (NLM_F_DUMP | NLM_F_ACK)).toBe(NLM_F_DUMP);
});

test.for(["a message", "the end"])(
  "a dump whose table changed meanwhile, as %s says, is begun again from nothing",
  async (where) => {
    let attempt = 0;
    kernel = ([m]) => {
      if (m === undefined) return [];
      const flag = ++attempt < 3 ? NLM_F_DUMP_INTR : 0;
      const body = new Uint8Array([attempt]);
      return where === "the end"
        ? [message(24, m.seq, body), done(m, 0, flag)]
        : [message(24, m.seq, body, flag), message(24, m.seq, body), done(m)];
    };
    const messages = await Netlink.open(0).dump(request("list"));
    expect(new Set(messages.map(({ body }) => body[0]))).toEqual(new Set([3]));
    expect(sent).toHaveLength(3);
  },
);

test("a dump that never stands still is given up, with an error of its own", async () => {
  kernel = ([m]) => (m ? [done(m, 0, NLM_F_DUMP_INTR)] : []);
  await expect(Netlink.open(0).dump(request("list routes"))).rejects.toMatchObject({
    code: "NETLINK_INTERRUPTED",
    message: expect.stringContaining("list routes"),
  });
});

test("a dump that is refused, at once or at its end, is an error", async () => {
  for (const answer of [acknowledge, done]) {
    kernel = ([m]) => (m ? [answer(m, EPERM)] : []);
    await expect(Netlink.open(0).dump(request("list"))).rejects.toMatchObject({
      code: "NETLINK_REFUSED",
      message: "list: EPERM",
    });
  }
});

test("dumps that are asked for at once come one after the other, and one that fails holds up none", async () => {
  const netlink = Netlink.open(0);
  let running = 0;
  kernel = (batch) =>
    batch.map((m) => {
      // As the kernel does: one dump a socket.
      if (running > 0) return acknowledge(m, 16);
      running++;
      setTimeout(() => {
        running--;
        socket.emit("message", Buffer.from(m.body[0] === 2 ? acknowledge(m, EPERM) : done(m)), { port: KERNEL });
      }, 1);
      return message(24, m.seq, m.body);
    });
  const dumps = [1, 2, 3].map((n) => netlink.dump(request(`list ${n}`, new Uint8Array([n]))));
  const outcomes = await Promise.allSettled(dumps);
  expect(outcomes).toMatchObject([
    { status: "fulfilled", value: [{ body: new Uint8Array([1]) }] },
    { status: "rejected", reason: { message: "list 2: EPERM" } },
    { status: "fulfilled", value: [{ body: new Uint8Array([3]) }] },
  ]);
});

test("a transaction is framed, and only what is in the frame is acknowledged", async () => {
  kernel = (batch) => batch.filter(({ flags }) => (flags & NLM_F_ACK) !== 0).map((m) => acknowledge(m));
  await Netlink.open(12).transaction(request("begin"), [request("a"), request("b")], request("end"));
  expect(sent).toHaveLength(1);
  expect(sent[0]?.map(({ flags }) => (flags & NLM_F_ACK) !== 0)).toEqual([false, true, true, false]);
});

test("a transaction's error is that of the first request that was refused", async () => {
  kernel = (batch) => batch.slice(1, -1).map((m, i) => acknowledge(m, i === 0 ? 0 : EEXIST));
  const transaction = Netlink.open(12).transaction(
    request("begin"),
    [request("a"), request("b"), request("c")],
    request("end"),
  );
  await expect(transaction).rejects.toThrow("b: EEXIST");
});

test("a transaction that is refused as a whole says so at once, not after a time-out", async () => {
  // nfnetlink answers to the beginning alone where it has no permission, or no nf_tables.
  kernel = ([begin]) => (begin ? [acknowledge(begin, EPERM)] : []);
  const transaction = Netlink.open(12).transaction(
    request("begin a transaction"),
    [request("a"), request("b")],
    request("end"),
  );
  await expect(transaction).rejects.toMatchObject({ code: "NETLINK_REFUSED", message: "begin a transaction: EPERM" });
});

test("a kernel that does not answer is an error that names the request", async () => {
  vi.useFakeTimers();
  kernel = () => [];
  const netlink = Netlink.open(0);
  const asked = [
    expect(netlink.submit([request("set route"), request("b")])).rejects.toMatchObject({
      code: "NETLINK_TIMEOUT",
      message: expect.stringContaining("set route"),
    }),
    expect(netlink.dump(request("list"))).rejects.toMatchObject({ code: "NETLINK_TIMEOUT" }),
  ];
  // One exchange after the other.
  await vi.advanceTimersByTimeAsync(20_000);
  await Promise.all(asked);
  expect(vi.getTimerCount()).toBe(0);
});

test("an overrun fails what is under way, and the socket goes on", async () => {
  vi.useFakeTimers();
  kernel = (batch) => (sent.length === 1 ? [] : batch.map((m) => acknowledge(m)));
  const netlink = Netlink.open(0);
  const [underWay, next] = [netlink.submit([request("a"), request("b")]), netlink.submit([request("c")])];
  const cause = Object.assign(new Error("no buffer space"), { code: "ENOBUFS" });
  const failure = expect(underWay).rejects.toMatchObject({ code: "NETLINK_OVERRUN", cause });
  await vi.advanceTimersByTimeAsync(0);
  socket.emit("error", cause);
  await failure;
  expect(await next).toHaveLength(1);
  expect(vi.getTimerCount()).toBe(0);
});

test("garbage from the kernel fails what waits, and the process goes on", async () => {
  for (const garbage of [new Uint8Array([1, 2, 3]), message(NLMSG_ERROR, 1, new Uint8Array(2))]) {
    kernel = () => [garbage];
    await expect(Netlink.open(0).submit([request("a")])).rejects.toMatchObject({ code: "NETLINK_PROTOCOL" });
  }
});

test("close fails what waits, and what is asked afterwards fails at once", async () => {
  vi.useFakeTimers();
  kernel = () => [];
  const netlink = Netlink.open(0);
  const waiting = expect(netlink.submit([request("a")])).rejects.toMatchObject({ code: "NETLINK_PROTOCOL" });
  netlink.close();
  await waiting;
  for (const ask of [
    () => netlink.submit([request("a"), request("b")]),
    () => netlink.dump(request("list")),
    () => netlink.transaction(request("begin"), [request("a")], request("end")),
  ]) {
    const error = await ask().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(NetlinkError);
    expect(error).toMatchObject({ code: "NETLINK_PROTOCOL" });
  }
  // Nothing is left that could fail later, where nobody listens.
  expect(vi.getTimerCount()).toBe(0);
});
