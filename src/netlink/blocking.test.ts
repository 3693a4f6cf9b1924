// SPDX-License-Identifier: Apache-2.0
//
// The blocking transport on a kernel of objects: what is written is taken apart, and answers wait to be read.
import { expect, test } from "vitest";
import { type Sys, SysError } from "../sys/sys.ts";
import { BlockingNetlink } from "./blocking.ts";
import { Body, decodeMessages, type Message, NetlinkError, NLMSG_ERROR, type Request } from "./message.ts";

const EEXIST = 17;
const FD = 5;

/** Answers to one batch, as datagrams. */
type Kernel = (batch: readonly Message[]) => readonly Uint8Array[];

function message(type: number, seq: number, body: Uint8Array): Uint8Array {
  return new Body()
    .u32(16 + body.length)
    .u16(type)
    .u16(0)
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

test("a send that fails says so, with the cause", () => {
  const { netlink, sys } = open(() => []);
  const cause = new SysError("write", 90, "EMSGSIZE");
  sys.write = () => {
    throw cause;
  };
  expect(() => netlink.request([request("a")])).toThrow(expect.objectContaining({ code: "NETLINK_PROTOCOL", cause }));
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
