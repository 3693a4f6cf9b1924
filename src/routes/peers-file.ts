// SPDX-License-Identifier: Apache-2.0
//
// The static file of peers as a source of nodes.
import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { PeersError } from "./errors.ts";
import { PEERS_MAX_BYTES, PeersParser } from "./peers.ts";
import type { Knowledge, Node, NodeSource } from "./source.ts";

/** Where the source tells that it can't be watched; pino's shape. */
export interface SourceLog {
  warn(fields: object, message: string): void;
}

export class PeersFile implements NodeSource {
  readonly #path: string;
  readonly #log: SourceLog;
  readonly #parser = new PeersParser();
  #nodes: readonly Node[] = [];
  #problem: string | undefined;
  /** The text that both follow from, good or bad; undefined when there was none to read. */
  #bytes: Buffer | undefined;

  private constructor(path: string, log: SourceLog) {
    this.#path = path;
    this.#log = log;
  }

  /** @throws PeersError when the file is unreadable or wrong now. Later that is in what `read` returns. */
  static async open(path: string, log: SourceLog): Promise<PeersFile> {
    const file = new PeersFile(path, log);
    await file.#update();
    return file;
  }

  async read(): Promise<Knowledge> {
    try {
      await this.#update();
    } catch (error) {
      if (!(error instanceof PeersError)) throw error;
      this.#problem = error.message;
    }
    return { nodes: this.#nodes, problem: this.#problem };
  }

  /** Watches the directory: editors and config maps put another file in the place of this one. */
  watch(onChange: () => void): { close(): void } {
    const directory = dirname(this.#path);
    let watcher: FSWatcher;
    try {
      watcher = watch(directory, { persistent: false }, onChange);
    } catch (err) {
      this.#log.warn({ err, directory }, "changes are seen at intervals only: the directory can't be watched");
      return { close: () => {} };
    }
    watcher.on("error", (err) => this.#log.warn({ err, directory }, "changes are seen at intervals only from now on"));
    return watcher;
  }

  async #update(): Promise<void> {
    const before = this.#bytes;
    this.#bytes = undefined;
    const bytes = await readBounded(this.#path);
    this.#bytes = bytes;
    if (before?.equals(bytes)) return;
    this.#nodes = this.#parser.parse(bytes.toString("utf8"));
    this.#problem = undefined;
  }
}

async function readBounded(path: string): Promise<Buffer> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new PeersError("PEERS_UNREADABLE", `the peers file can't be read: ${(cause as Error).message}`, cause);
  }
  if (bytes.length <= PEERS_MAX_BYTES) return bytes;
  throw new PeersError("PEERS_UNREADABLE", `the peers file ${path} has ${bytes.length} bytes, over ${PEERS_MAX_BYTES}`);
}
