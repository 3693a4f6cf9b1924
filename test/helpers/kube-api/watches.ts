// SPDX-License-Identifier: Apache-2.0
//
// The double's open watches.
import type { ServerResponse } from "node:http";
import type { ApiObject } from "./admin.ts";
import type { Faults } from "./faults.ts";
import type { Target } from "./kinds.ts";
import { selectorOf } from "./select.ts";
import { type ObjectStore, Refusal, type Write } from "./store.ts";

interface Watch {
  readonly target: Target;
  /** Nothing that isn't newer is told, even if it happens now: a store that was set back is silent for long. */
  readonly from: number;
  readonly selected: (object: ApiObject | undefined) => boolean;
  readonly bookmarks: boolean;
  readonly response: ServerResponse;
  readonly timer: NodeJS.Timeout | undefined;
}

export class Watches {
  readonly #store: ObjectStore;
  readonly #faults: Faults;
  readonly #open = new Set<Watch>();
  readonly #unsubscribe: () => void;

  constructor(store: ObjectStore, faults: Faults) {
    this.#store = store;
    this.#faults = faults;
    this.#unsubscribe = store.subscribe((write) => {
      for (const watch of this.#open) this.#send(watch, write);
    });
  }

  /** How many there are. */
  get size(): number {
    return this.#open.size;
  }

  /** @throws Refusal 410 when the version is forgotten */
  open(target: Target, query: URLSearchParams, response: ServerResponse): void {
    const version = query.get("resourceVersion") ?? "";
    if (!/^\d+$/.test(version)) throw new Refusal(400, "BadRequest", `invalid resource version ${version}`);
    const missed = this.#store.since(Number(version));
    const seconds = Number(query.get("timeoutSeconds") ?? "0");
    const timer = seconds > 0 ? setTimeout(() => this.#end(watch), seconds * 1000) : undefined;
    timer?.unref();
    const bookmarks = query.get("allowWatchBookmarks") === "true";
    const watch: Watch = { target, from: Number(version), selected: selectorOf(query), bookmarks, response, timer };
    this.#open.add(watch);
    response.on("close", () => {
      clearTimeout(timer);
      this.#open.delete(watch);
    });
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    for (const write of missed) this.#send(watch, write);
  }

  /** To all who asked for some, as a real one does about every minute. */
  bookmark(): void {
    for (const { target, from, bookmarks, response } of this.#open) {
      const { name: kind, apiVersion } = target.kind;
      const metadata = { resourceVersion: `${this.#store.version}`, creationTimestamp: null };
      if (bookmarks && this.#store.version >= from)
        this.#write(response, { type: "BOOKMARK", object: { kind, apiVersion, metadata } });
    }
  }

  /** As it ends a watch whose version it has forgotten meanwhile, or with another code. */
  fail(code: number, reason: string): void {
    const message = `told to fail with ${code}`;
    const status = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
    for (const { response } of this.#open) this.#write(response, { type: "ERROR", object: status });
    this.end();
  }

  /** Ends all of them in peace, as at their time's end. */
  end(): void {
    for (const { response } of this.#open) response.end();
    this.#open.clear();
  }

  writeHalfALine(): void {
    for (const { response } of this.#open) response.write('{"type":"MODIFIED","object":{"metadata":{"na');
  }

  close(): void {
    this.#unsubscribe();
    for (const { timer } of this.#open) clearTimeout(timer);
  }

  #end(watch: Watch): void {
    this.#open.delete(watch);
    watch.response.end();
  }

  #send({ target, from, selected, response }: Watch, { kind, before, after, version }: Write): void {
    if (kind !== target.kind || version <= from) return;
    const home = (after ?? before)?.metadata.namespace ?? "";
    if (target.namespace !== "" && target.namespace !== home) return;
    const [was, is] = [selected(before), selected(after)];
    if (!was && !is) return;
    const type = was ? (is ? "MODIFIED" : "DELETED") : "ADDED";
    const object = (is ? after : before) as ApiObject;
    // What is gone has the version of its going.
    this.#write(response, {
      type,
      object: { ...object, metadata: { ...object.metadata, resourceVersion: `${version}` } },
    });
  }

  #write(response: ServerResponse, event: object): void {
    if (this.#faults.stalled) return;
    const line = `${JSON.stringify(event)}\n`;
    if (this.#faults.delayMs > 0)
      setTimeout(() => response.writableEnded || response.write(line), this.#faults.delayMs);
    else response.write(line);
  }
}
