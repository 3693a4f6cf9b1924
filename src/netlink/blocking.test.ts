// SPDX-License-Identifier: Apache-2.0
//
// The blocking transport on a kernel of objects: what is written is taken apart, and answers wait to be read.
import { expect, test } from "vitest";
import { type Sys, SysError } from "../sys/sys.ts";
import { BlockingNetlink } from "./blocking.ts";
import {
  Body,
  decodeMessages,
  type Message,
  NetlinkError,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  type Request,
} from "./message.ts";

const EEXIST = 17;
const FD = 5;

/** Answers to one batch, as datagrams. */
type Kernel = (batch: readonly Message[]) => readonly Uint8Array[];

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

/** A transport and what is open of it. */
function open(kernel: Kernel) {
  const answers: Uint8Array[] = [];
  const state = { open: new Set<number>(), numbers: [] as number[] };
  const sys = {
    socket: () => {
      state.open.add(FD);
      return FD;
    },
    close: (fd: number) => state.open.delete(fd),
    setsockopt: () => {},
    setTimeouts: () => {},
    write: (_fd: number, bytes: Uint8Array) => {
      const batch = decodeMessages(bytes.slice());
      state.numbers.push(...batch.map(({ seq }) => seq));
      answers.push(...kernel(batch));
      return bytes.length;
    },
    read: (_fd: number, into: Uint8Array) => {
      const answer = answers.shift();
      if (answer === undefined) throw new SysError("read", 11, "EAGAIN");
      into.set(answer);
      return answer.length;
    },
  } as Partial<Sys> as Sys;
  return { netlink: BlockingNetlink.open(sys), state, sys };
}

function request(what: string): Request {
  return { type: 20, flags: 0, body: new Uint8Array(8), what };
}

test("answers come back in order, without the acknowledgements", () => {
  const { netlink } = open((batch) =>
    batch.flatMap((m) => [message(16, m.seq, new Uint8Array([m.seq])), acknowledge(m)]),
  );
  expect(netlink.request([request("a"), request("b")]).map(({ body }) => [...body])).toEqual([[1], [2]]);
});

test("many answers in one datagram are as good as many datagrams", () => {
  const { netlink } = open((batch) => [Buffer.concat(batch.map((m) => acknowledge(m)))]);
  expect(netlink.request([request("a"), request("b"), request("c")])).toEqual([]);
});

test("the error is that of the first request that was refused, wherever its answer stands", () => {
  const { netlink } = open(([a, b, c]) =>
    [a, b, c].flatMap((m, i) => (m ? [acknowledge(m, i === 0 ? 0 : EEXIST)] : [])),
  );
  expect(() => netlink.request([request("a"), request("b"), request("c")])).toThrow("b: EEXIST");
});

test("after a refusal the socket is good for the next batch: every answer was read", () => {
  let errno = EEXIST;
  const { netlink, state } = open((batch) => batch.map((m) => acknowledge(m, errno)));
  expect(() => netlink.request([request("a"), request("b")])).toThrow(NetlinkError);
  errno = 0;
  expect(netlink.request([request("c"), request("d")])).toEqual([]);
  expect(state.numbers).toEqual([1, 2, 3, 4]);
});

test("answers to what was asked earlier, or never, are passed over", () => {
  const { netlink } = open((batch) =>
    batch.flatMap((m) => [
      acknowledge({ ...m, seq: 0 }, EEXIST),
      acknowledge({ ...m, seq: 99 }, EEXIST),
      acknowledge(m),
    ]),
  );
  expect(netlink.request([request("a")])).toEqual([]);
});

test("an answer outlives the read of the next one", () => {
  const { netlink } = open((batch) => batch.flatMap((m) => [message(16, m.seq, new Uint8Array([7])), acknowledge(m)]));
  const [answer] = netlink.request([request("a")]);
  netlink.request([request("b")]);
  expect(answer?.body).toEqual(new Uint8Array([7]));
});

test("a kernel that doesn't answer is an error of its own that names the batch", () => {
  const { netlink } = open(() => []);
  expect(() => netlink.request([request("make veth flabc"), request("b")])).toThrow(
    expect.objectContaining({
      code: "NETLINK_TIMEOUT",
      message: expect.stringContaining("begins with: make veth flabc"),
      cause: expect.any(SysError),
    }),
  );
});

test("an answer of garbage is an error, not an endless wait", () => {
  const { netlink } = open(() => [new Uint8Array([1, 2, 3])]);
  expect(() => netlink.request([request("a")])).toThrow(expect.objectContaining({ code: "NETLINK_PROTOCOL" }));
});

test("a datagram of nothing is an error, not an endless wait", () => {
  const { netlink, sys } = open(() => []);
  sys.read = () => 0;
  expect(() => netlink.request([request("a")])).toThrow(expect.objectContaining({ code: "NETLINK_PROTOCOL" }));
});

test("a send that fails says so and why, with the cause", () => {
  const { netlink, sys } = open(() => []);
  const cause = new SysError("write", 90, "EMSGSIZE");
  sys.write = () => {
    throw cause;
  };
  const message = "send a netlink batch of 1: write: EMSGSIZE";
  const failure = expect.objectContaining({ code: "NETLINK_PROTOCOL", message, cause });
  expect(() => netlink.request([request("a")])).toThrow(failure);
});

test("no socket stays open when an option is refused, and close closes", () => {
  const { netlink, state, sys } = open(() => []);
  expect([...state.open]).toEqual([FD]);
  netlink.close();
  expect([...state.open]).toEqual([]);
  sys.setsockopt = () => {
    throw new SysError("setsockopt", 92, "ENOPROTOOPT");
  };
  expect(() => BlockingNetlink.open(sys)).toThrow("ENOPROTOOPT");
  expect([...state.open]).toEqual([]);
});

test("a refusal that a request tolerates is none", () => {
  const { netlink } = open((batch) => batch.map((m) => acknowledge(m, EEXIST)));
  expect(netlink.request([{ ...request("a"), tolerates: "EEXIST" }])).toEqual([]);
  expect(() => netlink.request([{ ...request("a"), tolerates: "ENOENT" }])).toThrow("a: EEXIST");
});

test("what became of each request is told at its position, and the answers of the others all the same", () => {
  const { netlink } = open((batch) =>
    batch.flatMap((m, i) =>
      i === 1 ? [acknowledge(m, EEXIST)] : [message(16, m.seq, new Uint8Array([i])), acknowledge(m)],
    ),
  );
  const { answers, errors } = netlink.submit([request("a"), request("b"), request("c")]);
  expect(answers.map(({ body }) => [...body])).toEqual([[0], [2]]);
  expect(errors.map((error) => error?.message)).toEqual([undefined, "b: EEXIST", undefined]);
  expect(errors).toHaveLength(3);
});

test("acknowledgements in another order stand at the right positions", () => {
  const { netlink } = open((batch) => batch.toReversed().map((m) => acknowledge(m, m.seq === 1 ? EEXIST : 0)));
  const { errors } = netlink.submit([request("a"), request("b")]);
  expect(errors.map((error) => error?.message)).toEqual(["a: EEXIST", undefined]);
});

const DUMPED = NLM_F_MULTI;
const INTERRUPTED = NLM_F_MULTI | NLM_F_DUMP_INTR;
const done = (seq: number, errno = 0, flags = DUMPED) => message(NLMSG_DONE, seq, new Body().u32(-errno).done(), flags);
const entry = (seq: number, value: number, flags = DUMPED) => message(16, seq, new Uint8Array([value]), flags);
const values = (messages: readonly Message[]) => messages.map(({ body }) => body[0]);

test("a dump is all that comes until it is done, over as many datagrams as it takes", () => {
  const { netlink } = open(([m]) => {
    const { seq } = m as Message;
    return [Buffer.concat([entry(seq, 1), entry(seq, 2, DUMPED)].map(padded)), entry(seq, 3), done(seq)];
  });
  expect(values(netlink.dump(request("list links")))).toEqual([1, 2, 3]);
});

/** Messages in one datagram begin at multiples of four. */
function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array((bytes.length + 3) & ~3);
  whole.set(bytes);
  return whole;
}

test("a dump is asked for as one, and without an acknowledgement", () => {
  const asked: number[] = [];
  const { netlink } = open(([m]) => {
    asked.push(m?.flags ?? 0);
    return [done(m?.seq ?? 0)];
  });
  expect(netlink.dump({ ...request("list links"), flags: 0x8 })).toEqual([]);
  expect(asked).toEqual([0x1 | 0x8 | NLM_F_DUMP]);
  expect((asked[0] as number) & NLM_F_ACK).toBe(0);
});

test.for([
  ["an entry", (seq: number) => [entry(seq, 1, INTERRUPTED), entry(seq, 2), done(seq)]],
  ["its end", (seq: number) => [entry(seq, 1), done(seq, 0, INTERRUPTED)]],
] as const)("a dump that was interrupted, as %s says, is begun again and read to its end first", ([, torn]) => {
  let attempts = 0;
  const { netlink } = open(([m]) => {
    const { seq } = m as Message;
    attempts++;
    return attempts < 3 ? torn(seq) : [entry(seq, 7), done(seq)];
  });
  expect(values(netlink.dump(request("list links")))).toEqual([7]);
});

test("a dump that is interrupted for ever is an error of its own", () => {
  const { netlink } = open(([m]) => [done(m?.seq ?? 0, 0, INTERRUPTED)]);
  expect(() => netlink.dump(request("list links"))).toThrow(
    expect.objectContaining({ code: "NETLINK_INTERRUPTED", message: expect.stringContaining("list links") }),
  );
});

test.for([
  ["at once", (m: Message) => [acknowledge(m, EEXIST)]],
  ["at its end", (m: Message) => [entry(m.seq, 1), done(m.seq, EEXIST)]],
] as const)("a dump that is refused %s says so", ([, answer]) => {
  const { netlink } = open(([m]) => answer(m as Message));
  expect(() => netlink.dump(request("list links"))).toThrow("list links: EEXIST");
});

test("what an earlier dump left unread is passed over", () => {
  let first = true;
  const { netlink } = open(([m]) => {
    const { seq } = m as Message;
    const answers = first ? [entry(seq, 1), done(seq, EEXIST), entry(seq, 2), done(seq)] : [entry(seq, 3), done(seq)];
    first = false;
    return answers;
  });
  expect(() => netlink.dump(request("list links"))).toThrow("EEXIST");
  expect(values(netlink.dump(request("list links")))).toEqual([3]);
});
