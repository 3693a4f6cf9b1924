// SPDX-License-Identifier: Apache-2.0
//
// The engine that runs the plugin and the host that it is given, compared with Node: what the shared code believes of its runtime
// must be true of this one as well.
import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runToEnd } from "../helpers/daemon.ts";
import { compileScript } from "../helpers/quickjs.ts";

interface Answer {
  readonly value?: unknown;
  readonly error?: string;
  readonly cause?: string;
}

let program: Awaited<ReturnType<typeof compileScript>>;

beforeAll(async () => {
  program = await compileScript("test/helpers/quickjs-probe.ts");
});
afterAll(() => program?.remove());

async function ask(
  questions: readonly (readonly [operation: string, bytes?: Uint8Array])[],
  command: readonly string[] = [program.path],
): Promise<Answer[]> {
  const input = questions.map(([name, bytes = []]) => `${name}\t${Buffer.from(bytes).toString("hex")}`).join("\n");
  const { status, stdout, stderr } = await runToEnd(command, { env: {}, input });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return stdout.split("\n").map((line) => JSON.parse(line) as Answer);
}

const one = async (name: string): Promise<Answer> => (await ask([[name]]))[0] as Answer;
const unitsOf = (text: string): number[] => Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What Node says to a question, or that it throws. */
function byNode(find: () => unknown): unknown {
  try {
    return find();
  } catch {
    return "an error";
  }
}

async function agree(
  operation: string,
  questions: readonly Uint8Array[],
  nodes: (bytes: Uint8Array) => unknown,
  read: (value: unknown) => unknown = (value) => value,
) {
  const answers = await ask(questions.map((bytes) => [operation, bytes] as const));
  for (const [at, bytes] of questions.entries()) {
    const { value, error } = answers[at] as Answer;
    const got = error === undefined ? read(value) : "an error";
    expect({ bytes: Buffer.from(bytes).toString("hex"), got }).toEqual({
      bytes: Buffer.from(bytes).toString("hex"),
      got: byNode(() => nodes(bytes)),
    });
  }
}

/** Samples with a seed of their own each run, which a failure names. */
function samples<T>(arbitrary: fc.Arbitrary<T>, count: number): { readonly seed: number; readonly values: T[] } {
  const seed = Date.now() & 0x7fffffff;
  return { seed, values: fc.sample(arbitrary, { numRuns: count, seed }) };
}

async function agreeOnSamples(
  operation: string,
  arbitrary: fc.Arbitrary<Uint8Array>,
  nodes: (bytes: Uint8Array) => unknown,
  read?: (value: unknown) => unknown,
): Promise<void> {
  const { seed, values } = samples(arbitrary, 2000);
  await agree(operation, values, nodes, read).catch((error: unknown) => {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  });
}

describe("text", () => {
  const decoded = (bytes: Uint8Array) => unitsOf(new TextDecoder("utf-8", { fatal: true }).decode(bytes));

  test("is read as Node reads UTF-8: whole, and nothing that isn't UTF-8", async () => {
    const edges = [
      "",
      "00",
      "7f",
      "80",
      "c1bf",
      "c280",
      "dfbf",
      "e09fbf",
      "e0a080",
      "ed9fbf",
      "eda080",
      "edbfbf",
      "eebfbf",
    ];
    const more = [
      "f08fbfbf",
      "f0908080",
      "f48fbfbf",
      "f4908080",
      "f5808080",
      "c2",
      "e0a0",
      "f09080",
      "efbbbf61",
      "61efbbbf",
      "ff",
    ];
    await agree(
      "decode",
      [...edges, ...more].map((hex) => Buffer.from(hex, "hex")),
      decoded,
    );
    await agreeOnSamples("decode", fc.uint8Array({ maxLength: 8 }), decoded);
    await agreeOnSamples("decode", fc.string({ unit: "binary", maxLength: 40 }).map(utf8), decoded);
  });

  test("is written as Node writes UTF-8: half of a surrogate pair becomes U+FFFD", async () => {
    const encoded = (bytes: Uint8Array) => {
      const units = Array.from({ length: bytes.length / 2 }, (_, at) => Buffer.from(bytes).readUInt16BE(2 * at));
      return [...utf8(String.fromCharCode(...units))];
    };
    const unit = fc.oneof(fc.nat(0xffff), fc.integer({ min: 0xd700, max: 0xe0ff }), fc.nat(0x7f));
    const units = fc
      .array(unit, { maxLength: 12 })
      .map((all) => Uint8Array.from(all.flatMap((u) => [u >> 8, u & 0xff])));
    await agreeOnSamples("encode", units, encoded);
  });
});

describe("JSON", () => {
  const parsed = (bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  const read = (units: unknown) => JSON.parse(String.fromCharCode(...(units as number[]))) as unknown;

  test("of any value is read and written as Node does it, numbers beyond 2^53 left aside", async () => {
    const isSmall = (number: number) => Math.abs(number) <= Number.MAX_SAFE_INTEGER;
    const values = fc.json({ maxDepth: 5 }).filter((text) => {
      let all = true;
      JSON.parse(text, (_, value) => {
        all &&= typeof value !== "number" || isSmall(value);
        return value;
      });
      return all;
    });
    await agreeOnSamples("json", values.map(utf8), parsed, read);
    const numbers = fc.double({ noNaN: true, noDefaultInfinity: true }).filter(isSmall);
    await agreeOnSamples(
      "json",
      numbers.map((number) => utf8(JSON.stringify([number]))),
      parsed,
      read,
    );
  });

  test("that is none is refused, as Node refuses it", async () => {
    const texts = [
      "",
      "{",
      "}",
      "[1,]",
      '{"a":1,}',
      "{'a':1}",
      "{a:1}",
      "01",
      ".5",
      "+1",
      "-",
      "1e",
      "NaN",
      "undefined",
      "[1 2]",
    ];
    const strings = [
      '"\n"',
      '"\\u12"',
      '"a',
      "nul",
      "true false",
      '{"a" 1}',
      '{"a":}',
      "[,]",
      "// a\n1",
      "/**/1",
      "\u00a01",
      "1\f",
    ];
    await agree("json", [...texts, ...strings].map(utf8), parsed);
  });

  test("is read a little more widely: no runtime writes these, and what they say is plain", async () => {
    const answers = await ask([
      ["json", utf8("1.")],
      ["json", utf8('"\\x41"')],
    ]);
    expect(answers.map(({ value }) => read(value))).toEqual([1, "A"]);
  });

  test("keys that mean something to objects are keys like others", async () => {
    await agree(
      "json",
      ['{"__proto__":{"a":1}}', '{"constructor":1,"toString":2}', '{"1":1,"0":2,"a":3}'].map(utf8),
      parsed,
      read,
    );
  });

  test("that is nested without end is refused and ends nothing", async () => {
    const [arrays, objects, closed] = await ask([
      ["json", utf8("[".repeat(500_000))],
      ["json", utf8('{"a":'.repeat(100_000))],
      ["json", utf8(`${"[".repeat(512)}${"]".repeat(512)}`)],
    ]);
    expect(arrays).toEqual({ error: "SyntaxError", cause: "more than 512 levels deep" });
    expect(objects).toEqual({ error: "SyntaxError", cause: "more than 512 levels deep" });
    expect(closed?.value).toHaveLength(1024);
  });
});

test("a function that calls itself without end is an error and not the end", async () => {
  expect(await one("recursion")).toEqual({ error: "InternalError", cause: "stack overflow" });
});

test("and so it is where a process is given a small stack", async () => {
  const command = ["/bin/sh", "-c", 'ulimit -s 512 && exec "$0"', program.path];
  const [endless, deep] = await ask([["recursion"], ["json", utf8(`${"[".repeat(512)}${"]".repeat(512)}`)]], command);
  expect(endless).toEqual({ error: "InternalError", cause: "stack overflow" });
  expect(deep?.value).toHaveLength(1024);
});

test("errors have causes and stay errors", async () => {
  expect((await one("cause")).value).toEqual([true, true, true, true, false, "Own: c"]);
});

describe("memory", () => {
  test("that is given out is nobody else's", async () => {
    expect(await one("memory")).toEqual({ value: true });
  });

  test("has an end, which is an error that can be dealt with", async () => {
    const [full, after] = await ask([["no memory"], ["memory"]]);
    expect(full).toEqual({ error: "InternalError", cause: "out of memory" });
    expect(after).toEqual({ value: true });
  });
});

test("the same sources make the same executable: nothing of the build's time or place is in its image", async () => {
  const other = await compileScript("test/helpers/quickjs-probe.ts");
  try {
    expect((await readFile(other.path)).equals(await readFile(program.path))).toBe(true);
  } finally {
    await other.remove();
  }
});

describe("the host", () => {
  test("reads and writes no byte beyond the buffer it is given", async () => {
    expect(await one("short buffer")).toEqual({ error: "RangeError", cause: "4 bytes where 5 are needed" });
    expect(await one("negative length")).toMatchObject({ error: "RangeError" });
    expect(await one("no buffer")).toMatchObject({ error: "TypeError" });
    expect(await one("unterminated path")).toMatchObject({ error: "TypeError" });
  });

  test("tells the errno of a call that failed", async () => {
    const missing = { code: "ENOENT", errno: 2, message: "open /nonexistent: ENOENT" };
    expect((await one("missing file")).value).toEqual(missing);
  });
});
