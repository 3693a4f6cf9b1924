// SPDX-License-Identifier: Apache-2.0
//
// Run as the plugin is (quickjs.ts): does what each line of stdin asks of the engine and its host, and answers with a line of JSON.
// A line is an operation and bytes in hexadecimal.
import { sys } from "../../src/sys/quickjs.ts";
import { SysError } from "../../src/sys/sys.ts";

function readAll(): Uint8Array {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const chunk = new Uint8Array(1 << 16);
    const length = sys.read(0, chunk);
    if (length === 0) break;
    chunks.push(chunk.subarray(0, length));
  }
  const all = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

function bytesOf(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2);
  for (let at = 0; at < bytes.length; at++) bytes[at] = Number.parseInt(hex.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/** Its code units, so that nothing on the way back can change them. */
const unitsOf = (text: string): number[] => Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));

function deeper(depth: number): number {
  return depth === 0 ? 0 : 1 + deeper(depth - 1);
}

const OPERATIONS: Readonly<Record<string, (bytes: Uint8Array) => unknown>> = {
  /** UTF-16 in, UTF-8 out. */
  encode: (bytes) => {
    let text = "";
    for (let at = 0; at < bytes.length; at += 2) {
      text += String.fromCharCode(((bytes[at] as number) << 8) | (bytes[at + 1] as number));
    }
    return [...new TextEncoder().encode(text)];
  },
  decode: (bytes) => unitsOf(new TextDecoder().decode(bytes)),
  json: (bytes) => unitsOf(JSON.stringify(JSON.parse(new TextDecoder().decode(bytes)))),
  recursion: () => deeper(1e9),
  cause: () => {
    const error = new SyntaxError("a");
    const outer = new Error("b", { cause: error });
    class Own extends Error {
      override readonly name = "Own";
    }
    const own = new Own("c", { cause: outer });
    return [
      outer.cause === error,
      own.cause === outer,
      own instanceof Own && own instanceof Error,
      new TypeError("d") instanceof Error,
      "cause" in new Error("e"),
      `${own}`,
    ];
  },
  /** Thousands of blocks of all sizes that come and go, each filled with a byte of its own. True when all are still what they were. */
  memory: () => {
    let random = 1;
    const next = (below: number) => {
      random = (random * 48271) % 0x7fffffff;
      return random % below;
    };
    const held: Uint8Array[] = [];
    for (let i = 0; i < 20_000; i++) {
      const at = next(300);
      const old = held[at];
      if (old?.some((byte) => byte !== old[0])) return false;
      const size = next(4) === 0 ? next(40_000) : next(300);
      held[at] = new Uint8Array(size).fill(i);
    }
    return held.every((block) => block === undefined || block.every((byte) => byte === block[0]));
  },
  "no memory": () => {
    const all: Uint8Array[] = [];
    for (;;) all.push(new Uint8Array(1 << 20));
  },
  "short buffer": () => host.read(0, new Uint8Array(4), 5),
  "negative length": () => host.write(1, new Uint8Array(4), -1),
  "no buffer": () => host.read(0, 5, 5),
  "unterminated path": () => host.open(new Uint8Array([47]), 0, 0),
  "missing file": () => {
    try {
      return sys.open("/nonexistent", 0);
    } catch (error) {
      return error instanceof SysError
        ? { code: error.code, errno: error.errno, message: error.message }
        : String(error);
    }
  },
};

function answer(line: string): unknown {
  const [name = "", hex = ""] = line.split("\t");
  try {
    return { value: OPERATIONS[name]?.(bytesOf(hex)) };
  } catch (error) {
    return { error: (error as Error).name, cause: (error as Error).message };
  }
}

host.start = () => {
  const lines = new TextDecoder().decode(readAll()).split("\n");
  const text = lines.map((line) => JSON.stringify(answer(line))).join("\n");
  for (let rest = new TextEncoder().encode(text); rest.length > 0; ) rest = rest.subarray(sys.write(1, rest));
  host.exit(0);
};
