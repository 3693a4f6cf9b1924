// SPDX-License-Identifier: Apache-2.0
//
// A watch's answer: one JSON document a line. Pure.
import { KubeError } from "./errors.ts";

/** Longest line in bytes. An object has at most 1.5 MiB in etcd, and more as JSON. */
const LINE_MAX_BYTES = 8 * 1024 * 1024;
const NEWLINE = 10;

/** Puts lines together from the pieces that come. */
export class WatchLines {
  #rest: Uint8Array[] = [];
  #size = 0;

  /** @returns what was in the lines that are whole with this piece. @throws KubeError KUBE_PROTOCOL */
  push(piece: Uint8Array): unknown[] {
    const documents: unknown[] = [];
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, from)) {
      this.#keep(piece.subarray(from, end));
      const line = Buffer.concat(this.#rest).toString();
      this.#rest = [];
      this.#size = 0;
      from = end + 1;
      if (line.trim() !== "") documents.push(parseLine(line));
    }
    this.#keep(piece.subarray(from));
    return documents;
  }

  #keep(part: Uint8Array): void {
    if (part.length === 0) return;
    this.#size += part.length;
    if (this.#size > LINE_MAX_BYTES) {
      throw new KubeError("KUBE_PROTOCOL", `an event of a watch has more than ${LINE_MAX_BYTES} bytes`);
    }
    this.#rest.push(part);
  }
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new KubeError("KUBE_PROTOCOL", "an event of a watch is not JSON", { cause });
  }
}
