// SPDX-License-Identifier: Apache-2.0
import { expect, onTestFinished, test, vi } from "vitest";
import { SysError } from "../sys/sys.ts";
import { listen, type NotificationSocket } from "./notifications.ts";

/** A message without a body, of the type. */
function message(type: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16, true);
  view.setUint16(4, type, true);
  return bytes;
}

const OVERRUN = new SysError("recvmsg", 105, "ENOBUFS");

/** A socket with this in its queue, and what was told of it; the queue may be filled up later. */
function hear(queue: (Uint8Array | SysError)[]): string[] {
  vi.useFakeTimers();
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const told: string[] = [];
  const socket: NotificationSocket = {
    receive: () => {
      const next = queue.shift();
      if (next instanceof SysError) throw next;
      return next && { bytes: next };
    },
    close: () => told.push("closed"),
  };
  const deafen = listen(socket, {
    onMessage: ({ type }) => told.push(`${type}`),
    onLost: (why) => told.push((why as Error).message),
  });
  onTestFinished(() => {
    deafen();
    expect(told.at(-1)).toBe("closed");
  });
  return told;
}

test("what comes is told in order, sooner or later", () => {
  const queue = [message(16), message(24)];
  const told = hear(queue);
  vi.advanceTimersByTime(1000);
  expect(told).toEqual(["16", "24"]);
  queue.push(message(20));
  vi.advanceTimersByTime(1000);
  expect(told).toEqual(["16", "24", "20"]);
});

test("a loss is told once everything is read that was waiting, because more is dropped until then", () => {
  const told = hear([message(16), OVERRUN, ...Array.from({ length: 2000 }, () => message(24)), message(20)]);
  vi.advanceTimersByTime(1000);
  expect(told.slice(0, 2)).toEqual(["16", "24"]);
  expect(told.slice(-2)).toEqual(["20", "recvmsg: ENOBUFS"]);
});

test("a datagram that makes no sense is as good as lost, and what follows is told", () => {
  const told = hear([new Uint8Array([1, 2, 3]), message(16)]);
  vi.advanceTimersByTime(1000);
  expect(told).toEqual(["16", expect.stringContaining("3 are left")]);
});
