// SPDX-License-Identifier: Apache-2.0
//
// A list's answer, read one item at a time as its bytes come: {"kind": …, "metadata": {…}, "items": [{…}, {…}]}. An API
// server that lists from its cache ignores `limit`, and 5,000 nodes in one piece are 50 MB of JSON, several times that as
// values. Pure.
import { KubeError } from "./errors.ts";
import { fieldsOf, textOf } from "./raw.ts";

/** Most bytes of one item, and of everything that is no item. */
const ITEM_MAX_BYTES = 8 * 1024 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;

/** Within how many brackets the array of items is, and what is in it. */
const ITEMS_DEPTH = 2;

/** What a list says besides its items. */
export interface ListEnd {
  readonly resourceVersion: string;
  /** Where the next page begins; undefined at the last one. */
  readonly next: string | undefined;
}

export class ListItems {
  readonly #onItem: (item: unknown) => void;
  /** The answer without what is in the array of items. */
  #frame: Uint8Array[] = [];
  #frameSize = 0;
  #item: Uint8Array[] = [];
  #itemSize = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Between the brackets of "items". */
  #inItems = false;
  /** The last text at depth 1, which at a bracket is the key that it belongs to. */
  #key: number[] = [];

  /** @param onItem gets each item, parsed */
  constructor(onItem: (item: unknown) => void) {
    this.#onItem = onItem;
  }

  /** @throws KubeError KUBE_PROTOCOL */
  push(piece: Uint8Array): void {
    /** Where in the piece that begins which hasn't been kept yet. */
    let from = 0;
    for (let at = 0; at < piece.length; at++) {
      const byte = piece[at] as number;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
        else if (this.#depth === 1 && this.#key.length <= "items".length) this.#key.push(byte);
      } else if (byte === QUOTE) {
        this.#inString = true;
        if (this.#depth === 1) this.#key = [];
      } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        this.#depth++;
        if (this.#depth === ITEMS_DEPTH && byte === OPEN_ARRAY && String.fromCharCode(...this.#key) === "items") {
          this.#keepFrame(piece.subarray(from, at + 1));
          this.#inItems = true;
          from = at + 1;
        } else if (this.#inItems && this.#depth === ITEMS_DEPTH + 1) from = at;
      } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
        this.#depth--;
        if (this.#inItems && this.#depth === ITEMS_DEPTH) {
          this.#keepItem(piece.subarray(from, at + 1));
          this.#endItem();
          from = at + 1;
        } else if (this.#inItems && this.#depth < ITEMS_DEPTH) {
          this.#inItems = false;
          from = at;
        }
      }
    }
    const rest = piece.subarray(from);
    if (!this.#inItems) this.#keepFrame(rest);
    else if (this.#depth > ITEMS_DEPTH) this.#keepItem(rest);
  }

  /** To be called after the last piece. @throws KubeError KUBE_PROTOCOL when that wasn't a whole list */
  end(): ListEnd {
    const list = fieldsOf(parse(this.#frame));
    const { resourceVersion, continue: next } = fieldsOf(list["metadata"]);
    if (textOf(resourceVersion) === "" || !/List$/.test(textOf(list["kind"]))) {
      throw new KubeError("KUBE_PROTOCOL", "the answer is not a list of the API's");
    }
    return { resourceVersion: textOf(resourceVersion), next: textOf(next) || undefined };
  }

  #keepFrame(part: Uint8Array): void {
    this.#frameSize += part.length;
    this.#frame.push(bounded(part, this.#frameSize));
  }

  #keepItem(part: Uint8Array): void {
    this.#itemSize += part.length;
    this.#item.push(bounded(part, this.#itemSize));
  }

  #endItem(): void {
    const item = parse(this.#item);
    this.#item = [];
    this.#itemSize = 0;
    this.#onItem(item);
  }
}

function bounded(part: Uint8Array, size: number): Uint8Array {
  if (size <= ITEM_MAX_BYTES) return part;
  throw new KubeError("KUBE_PROTOCOL", `an object of a list has more than ${ITEM_MAX_BYTES} bytes`);
}

function parse(parts: readonly Uint8Array[]): unknown {
  try {
    return JSON.parse(Buffer.concat(parts).toString());
  } catch (cause) {
    throw new KubeError("KUBE_PROTOCOL", "the answer to a list is not JSON", { cause });
  }
}
