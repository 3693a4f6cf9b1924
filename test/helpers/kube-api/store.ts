// SPDX-License-Identifier: Apache-2.0
//
// The double's objects and what became of them, version by version. No HTTP.
import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { ApiObject } from "./admin.ts";
import type { Kind } from "./kinds.ts";

/** As the API server has it in the answer to whom it refuses. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/** One write. Never both undefined. */
export interface Write {
  readonly version: number;
  readonly kind: Kind;
  readonly before: ApiObject | undefined;
  readonly after: ApiObject | undefined;
}

export class ObjectStore {
  /** Of the last write. Like etcd's it doesn't begin at 0, which means something else. */
  version = 1000;
  /** Versions before this one are forgotten. */
  oldest = 1000;
  #writes: Write[] = [];
  readonly #objects = new Map<string, ApiObject>();
  readonly #watchers = new Set<(write: Write) => void>();

  /** Sorted by namespace and name, as etcd has them. */
  list(kind: Kind, namespace: string): ApiObject[] {
    const prefix = `${id(kind)}/${namespace === "" ? "" : `${namespace}/`}`;
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => this.#objects.get(key) as ApiObject);
  }

  get(kind: Kind, namespace: string, name: string): ApiObject {
    const found = this.#objects.get(keyOf(kind, namespace, name));
    if (found === undefined) throw new Refusal(404, "NotFound", `${kind.plural} "${name}" not found`);
    return found;
  }

  create(kind: Kind, namespace: string, object: ApiObject): ApiObject {
    const { name } = object.metadata;
    if (typeof name !== "string" || name === "") throw new Refusal(422, "Invalid", "metadata.name: Required value");
    if (this.#objects.has(keyOf(kind, namespace, name))) {
      throw new Refusal(409, "AlreadyExists", `${kind.plural} "${name}" already exists`);
    }
    const metadata = {
      ...object.metadata,
      ...(kind.namespaced && { namespace }),
      uid: randomUUID(),
      creationTimestamp: new Date().toISOString().replace(/\.\d+Z$/, "Z"),
    };
    // A pod's status is kubelet's business, and that comes later.
    const status = kind.name === "Pod" ? { status: { phase: "Pending" } } : {};
    return this.#write(kind, undefined, {
      ...object,
      apiVersion: kind.apiVersion,
      kind: kind.name,
      metadata,
      ...status,
    });
  }

  /** @param change what is to become of the object that is there; its uid and name stay */
  update(
    kind: Kind,
    namespace: string,
    name: string,
    subresource: string,
    change: (before: ApiObject) => ApiObject,
  ): ApiObject {
    const before = this.get(kind, namespace, name);
    const changed = change(before);
    const { resourceVersion } = changed.metadata ?? {};
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      const message = `Operation cannot be fulfilled on ${kind.plural} "${name}": the object has been modified`;
      throw new Refusal(409, "Conflict", message);
    }
    const kept = subresource === "status" ? { ...before, status: changed.status } : changed;
    const after = kind.statusApart && subresource === "" ? { ...kept, status: before.status } : kept;
    const { uid, namespace: home } = before.metadata;
    const metadata = {
      ...after.metadata,
      name,
      ...(home !== undefined && { namespace: home }),
      ...(uid !== undefined && { uid }),
    };
    // A write that changes nothing is none.
    if (isDeepStrictEqual(stripped({ ...after, metadata }), stripped(before))) return before;
    return this.#write(kind, before, stripped({ ...after, metadata }));
  }

  delete(kind: Kind, namespace: string, name: string): ApiObject {
    const before = this.get(kind, namespace, name);
    this.#write(kind, before, undefined);
    return before;
  }

  /** What was written after the version. @throws Refusal 410 when that is forgotten */
  since(version: number): Write[] {
    if (version < this.oldest) {
      throw new Refusal(410, "Expired", `too old resource version: ${version} (${this.oldest})`);
    }
    return this.#writes.filter((write) => write.version > version);
  }

  /** Forgets all versions but the last. */
  compact(): void {
    // A write of something that nobody looks at, so that the last version anybody has seen is forgotten too.
    this.version++;
    this.oldest = this.version;
    this.#writes = [];
  }

  /** Has its objects at an older version, as after etcd was restored from a backup. */
  setBack(version: number): void {
    this.version = version;
    this.oldest = version;
    this.#writes = [];
  }

  subscribe(onWrite: (write: Write) => void): () => void {
    this.#watchers.add(onWrite);
    return () => this.#watchers.delete(onWrite);
  }

  #write(kind: Kind, before: ApiObject | undefined, object: ApiObject | undefined): ApiObject {
    const version = ++this.version;
    const { name, namespace = "" } = ((object ?? before) as ApiObject).metadata;
    const after = object && { ...object, metadata: { ...object.metadata, resourceVersion: `${version}` } };
    if (after === undefined) this.#objects.delete(keyOf(kind, namespace, name));
    else this.#objects.set(keyOf(kind, namespace, name), after);
    const write = { version, kind, before, after };
    this.#writes.push(write);
    for (const watcher of this.#watchers) watcher(write);
    return after ?? (before as ApiObject);
  }
}

function stripped(object: object & Pick<ApiObject, "metadata">): ApiObject {
  const { resourceVersion, ...metadata } = object.metadata;
  return JSON.parse(JSON.stringify({ ...object, metadata }));
}

function id(kind: Kind): string {
  return `${kind.group}/${kind.plural}`;
}

function keyOf(kind: Kind, namespace: string, name: string): string {
  return kind.namespaced ? `${id(kind)}/${namespace}/${name}` : `${id(kind)}/${name}`;
}
