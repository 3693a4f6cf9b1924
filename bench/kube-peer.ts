// SPDX-License-Identifier: Apache-2.0
//
// URL CA TOKEN: the daemon's peer with Kubernetes, the least that a Node program does that wants to know all nodes. It lists
// them as the daemon does, parses each answer whole, keeps what routes need, says how many there are, and watches.
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { get } from "node:https";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";

const [server = "", caFile = "", token = ""] = process.argv.slice(2);

interface ApiNode {
  readonly metadata: { readonly name: string; readonly resourceVersion: string };
  readonly spec: { readonly podCIDRs: readonly string[] };
  readonly status: { readonly addresses: readonly { readonly type: string; readonly address: string }[] };
}

interface NodeList {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly ApiNode[];
}

const url = new URL("/api/v1/nodes", server);
const ca = readFileSync(caFile);
const headers = { authorization: `Bearer ${token}`, "accept-encoding": "gzip" };
const known = new Map<string, readonly string[]>();

function ask(query: Record<string, string>): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const unzip = (answer: IncomingMessage) =>
      resolve(answer.headers["content-encoding"] === "gzip" ? answer.pipe(createGunzip()) : answer);
    get(`${url}?${new URLSearchParams(query)}`, { ca, headers }, unzip).on("error", reject);
  });
}

async function page(query: Record<string, string>): Promise<NodeList> {
  const chunks: Buffer[] = [];
  for await (const chunk of await ask(query)) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

function keep({ metadata, spec, status }: ApiNode): void {
  const addresses = status.addresses.flatMap(({ type, address }) => (type === "InternalIP" ? [address] : []));
  known.set(metadata.name, [...spec.podCIDRs, ...addresses]);
}

let resourceVersion = "";
for (let next: string | undefined = ""; next !== undefined; ) {
  const list: NodeList = await page({ limit: "500", ...(next === "" ? { resourceVersion: "0" } : { continue: next }) });
  list.items.forEach(keep);
  resourceVersion = list.metadata.resourceVersion;
  next = list.metadata.continue || undefined;
}
process.stdout.write(`{"msg":"synced","count":${known.size}}\n`);

const events = await ask({ watch: "true", allowWatchBookmarks: "true", resourceVersion });
for await (const line of createInterface(events)) {
  const { type, object }: { type: string; object: ApiNode } = JSON.parse(line);
  if (type === "DELETED") known.delete(object.metadata.name);
  else if (type !== "BOOKMARK") keep(object);
}
