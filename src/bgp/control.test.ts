// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { askBird, ReplyReader } from "./control.ts";

const PROTOCOLS = `0001 BIRD 2.0.12 ready.
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     20:56:26.144
 peer_172_31_0_2 BGP        ---        up     20:56:26.990  Established
0000
`;

describe("what BIRD says", () => {
  test("is the same whatever pieces it comes in", () => {
    const whole = new ReplyReader().push(PROTOCOLS);
    expect(whole.map(({ lines }) => lines.map(({ code }) => code))).toEqual([[1], [2002, 1002, 1002, 0]]);
    expect(whole[1]?.lines[2]?.text).toMatch(/^peer_172_31_0_2 BGP/);
    fc.assert(
      fc.property(fc.array(fc.nat(PROTOCOLS.length)), (cuts) => {
        const reader = new ReplyReader();
        const at = [0, ...cuts.sort((a, b) => a - b), PROTOCOLS.length];
        const pieces = at.slice(1).map((end, i) => PROTOCOLS.slice(at[i], end));
        expect(pieces.flatMap((piece) => reader.push(piece))).toEqual(whole);
      }),
    );
  });

  test("without messages of its log is the same", () => {
    expect(new ReplyReader().push("+ peer: up\n0000 \n")).toEqual([{ lines: [{ code: 0, text: "" }] }]);
  });

  test.each(["HTTP/1.1 400\n", " first\n", "12 x\n"])("in another language is refused: %j", (text) => {
    expect(() => new ReplyReader().push(text)).toThrow(expect.objectContaining({ code: "BGP_BIRD_FAILED" }));
  });
});

/** Somebody on a socket who greets as BIRD does and answers what the function says. */
async function startFake(answer: (command: string, socket: Socket) => string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "flatnet-bird-"));
  const server = createServer((socket) => {
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.write("0001 BIRD 2.0.12 ready.\n");
    socket.on("data", (text: string) => socket.write(answer(text.trim(), socket)));
  });
  onTestFinished(async () => {
    server.close();
    await rm(folder, { recursive: true });
  });
  const path = join(folder, "bird.ctl");
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return path;
}

describe("asking BIRD", () => {
  test("gives a reply to each command, in order", async () => {
    const path = await startFake((command) => `1000-${command}\n0000 \n`);
    const replies = await askBird(path, ["show status", "show protocols"]);
    expect(replies.map(({ lines }) => lines[0]?.text)).toEqual(["show status", "show protocols"]);
  });

  test("ends at the first command that is refused, with BIRD's words", async () => {
    const path = await startFake((command) =>
      command === "configure" ? "8002 bird.conf:3:1 syntax error\n" : "0000 \n",
    );
    await expect(askBird(path, ["show status", "configure", "down"])).rejects.toMatchObject({
      code: "BGP_BIRD_FAILED",
      message: "BIRD said: bird.conf:3:1 syntax error",
    });
  });

  test("tells a BIRD that isn't there, or hangs up, from one that fails", async () => {
    await expect(askBird("/nonexistent/bird.ctl", [])).rejects.toMatchObject({ code: "BGP_BIRD_AWAY" });
    const path = await startFake((_command, socket) => {
      socket.end();
      return "";
    });
    await expect(askBird(path, ["down"])).rejects.toMatchObject({ code: "BGP_BIRD_AWAY" });
  });
});
