// SPDX-License-Identifier: Apache-2.0
//
// JSON lines, the language between the lab and its processes.

/** Cuts a stream into lines; a line longer than the bound throws, because whoever sends it is broken. */
export class LineSplitter {
  readonly #most: number;
  readonly #decoder = new TextDecoder();
  #rest = "";

  constructor(mostCharacters: number) {
    this.#most = mostCharacters;
  }

  /** The lines that end in these bytes. */
  push(bytes: Uint8Array): string[] {
    const parts = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = parts.pop() as string;
    if (this.#rest.length > this.#most || parts.some((part) => part.length > this.#most)) {
      throw new Error(`a line is longer than ${this.#most} characters`);
    }
    return parts.filter((part) => part !== "");
  }
}

/** The end of a text that grows: its last characters, at most `most`. */
export class Tail {
  readonly #most: number;
  #text = "";

  constructor(mostCharacters: number) {
    this.#most = mostCharacters;
  }

  push(bytes: Uint8Array): void {
    this.#text = (this.#text + Buffer.from(bytes).toString("utf8")).slice(-this.#most);
  }

  lines(most: number): string[] {
    return lastLines(this.#text, most);
  }
}

/** The last lines of a text that are not empty. */
export function lastLines(text: string, most: number): string[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-most);
}
