// SPDX-License-Identifier: Apache-2.0
//
// BIRD's control socket, as birdc speaks it (doc/reply_codes of BIRD 2). A command is a line; its reply is lines of a
// four-digit code, a "-" while more come or a space in the last one, and text. A line that begins with a space is one more
// of the code before it. Codes 8xxx and 9xxx say no.
import { connect } from "node:net";
import { BgpError } from "./errors.ts";

export interface ReplyLine {
  readonly code: number;
  readonly text: string;
}

export interface Reply {
  readonly lines: readonly ReplyLine[];
}

/** A reply that is longer is none: 1,000 sessions have 100 KiB. */
const REPLY_MAX = 8 * 1024 * 1024;
const TIMEOUT_MS = 5000;

/** What BIRD says, put together from the pieces that come. Pure. */
export class ReplyReader {
  #rest = "";
  #lines: ReplyLine[] = [];

  /** @returns the replies that are whole with this piece. @throws BgpError BGP_BIRD_FAILED when BIRD's language isn't this one */
  push(piece: string): Reply[] {
    const parts = (this.#rest + piece).split("\n");
    this.#rest = parts.pop() as string;
    if (this.#rest.length > REPLY_MAX || this.#lines.length > REPLY_MAX / 100) throw foreign("a reply without an end");
    const replies: Reply[] = [];
    for (const part of parts) {
      // "+" is a message of BIRD's log, for who asked for them.
      if (part.startsWith("+")) continue;
      if (part.startsWith(" ")) {
        const code = this.#lines.at(-1)?.code;
        if (code === undefined) throw foreign(part);
        this.#lines.push({ code, text: part.slice(1) });
        continue;
      }
      const code = part.slice(0, 4);
      if (!/^\d{4}$/.test(code)) throw foreign(part);
      this.#lines.push({ code: Number(code), text: part.slice(5) });
      if (part[4] === "-") continue;
      replies.push({ lines: this.#lines });
      this.#lines = [];
    }
    return replies;
  }
}

function foreign(what: string): BgpError {
  return new BgpError("BGP_BIRD_FAILED", `BIRD's control socket said ${JSON.stringify(what.slice(0, 100))}`);
}

/**
 * Connects, asks each command once the one before is answered, and hangs up.
 * @returns a reply for each command
 * @throws BgpError BGP_BIRD_AWAY when nobody listens, BGP_BIRD_FAILED when a command is refused or no answer comes
 */
export async function askBird(path: string, commands: readonly string[]): Promise<Reply[]> {
  return await new Promise((resolve, reject) => {
    const reader = new ReplyReader();
    const replies: Reply[] = [];
    let greeted = false;
    const socket = connect({ path });
    const end = (error?: BgpError) => {
      socket.destroy();
      if (error === undefined) resolve(replies);
      else reject(error);
    };
    socket.setEncoding("utf8");
    socket.setTimeout(TIMEOUT_MS, () =>
      end(new BgpError("BGP_BIRD_FAILED", `BIRD did not answer on ${path} within ${TIMEOUT_MS} ms`)),
    );
    socket.on("error", (cause: NodeJS.ErrnoException) => {
      const away = cause.code === "ENOENT" || cause.code === "ECONNREFUSED";
      end(new BgpError(away ? "BGP_BIRD_AWAY" : "BGP_BIRD_FAILED", `BIRD's control socket: ${cause.message}`, cause));
    });
    socket.on("close", () => end(new BgpError("BGP_BIRD_AWAY", "BIRD hung up")));
    socket.on("data", (piece: string) => {
      try {
        for (const reply of reader.push(piece)) {
          const refusal = reply.lines.find(({ code }) => code >= 8000);
          if (refusal !== undefined) throw new BgpError("BGP_BIRD_FAILED", `BIRD said: ${refusal.text}`);
          if (greeted) replies.push(reply);
          greeted = true;
          const next = commands[replies.length];
          if (next === undefined) return end();
          socket.write(`${next}\n`);
        }
      } catch (error) {
        end(error as BgpError);
      }
    });
  });
}
