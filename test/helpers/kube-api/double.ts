// SPDX-License-Identifier: Apache-2.0
//
// A double of the API server: real HTTP or HTTPS, lists in pages or whole, watches with bookmarks, patches, and everything
// that goes wrong with a real one, at the test's word. It has no controllers, no admission and no defaults.
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps, type Server as HttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { type ApiObject, createAdmin } from "./admin.ts";
import type { ApiServer } from "./api-server.ts";
import { makeCertificate, type ServerCertificate } from "./certificates.ts";
import type { AuditEntry } from "./control-plane.ts";
import { Faults } from "./faults.ts";
import { type Target, targetOf } from "./kinds.ts";
import { applyPatch } from "./patch.ts";
import { selectorOf } from "./select.ts";
import { ObjectStore, Refusal } from "./store.ts";
import { Watches } from "./watches.ts";

export interface DoubleOptions {
  /** With a certificate of its own; then it also wants a token. */
  readonly tls?: boolean;
  /** Lists of version "0" are in pages too, as without the API server's cache. */
  readonly pagesAlways?: boolean;
}

/** A request, with what it asked for. */
export interface DoubleRequest extends AuditEntry {
  readonly query: Readonly<Record<string, string>>;
}

export interface KubeApiDouble extends ApiServer {
  readonly store: ObjectStore;
  readonly faults: Faults;
  readonly watches: Watches;
  /** In the order of their coming, the administrator's left out. */
  readonly requests: readonly DoubleRequest[];
  /** Only these tokens are taken from now on, besides the administrator's. */
  acceptTokens(...tokens: string[]): void;
  /** Another authority signs another certificate; connections that are open are closed. @returns the new authority, PEM */
  rotateCertificate(): string;
  /** Every connection is reset, in the middle of a line where it is a watch's. */
  resetConnections(): void;
  close(): Promise<void>;
}

/** Answers that are longer are compressed for who takes that, as by the API server. */
const COMPRESSED_BYTES = 128 * 1024;
const ADMIN_TOKEN = "admin-token";
/** What flatnet's own requests come with unless a test says otherwise. */
export const AGENT_TOKEN = "agent-token";

export async function startDouble(options: DoubleOptions = {}): Promise<KubeApiDouble> {
  const store = new ObjectStore();
  const faults = new Faults();
  const watches = new Watches(store, faults);
  const sockets = new Set<Socket>();
  const requests: DoubleRequest[] = [];
  const pages = new Map<string, Page>();
  let tokens = new Set([AGENT_TOKEN]);
  let certificate: ServerCertificate | undefined = options.tls === true ? makeCertificate() : undefined;

  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    serve(request, response).catch((error: unknown) => refuse(response, error));
  };
  const server = certificate === undefined ? createHttp(onRequest) : createHttps(certificate, onRequest);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  });
  const closeSockets = () => {
    for (const socket of sockets) socket.destroy();
  };
  const listen = (port: number) =>
    new Promise<number>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
    });
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      closeSockets();
    });
  const port = await listen(0);
  const url = `${options.tls === true ? "https" : "http"}://127.0.0.1:${port}`;

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "/", url);
    const target = targetOf(pathname);
    const verb = verbOf(request.method ?? "", target, searchParams);
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    const byAdmin = token === ADMIN_TOKEN;
    const body = await readBody(request);
    if (!byAdmin) {
      requests.push(entryOf(verb, target, searchParams, () => response.statusCode));
      if (faults.stalled) return;
      if (faults.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, faults.delayMs));
      const failure = faults.failureOf(verb, target?.kind.plural ?? "");
      if (failure !== undefined) {
        if (failure.retryAfter !== undefined) response.setHeader("retry-after", `${failure.retryAfter}`);
        throw new Refusal(failure.status, failure.reason ?? "", `told to fail with ${failure.status}`);
      }
      if (certificate !== undefined && !(token !== undefined && tokens.has(token))) {
        throw new Refusal(401, "Unauthorized", "Unauthorized");
      }
    }
    if (pathname === "/readyz" || pathname === "/livez" || pathname === "/healthz") return void response.end("ok");
    if (target === undefined) throw new Refusal(404, "NotFound", "the server could not find the requested resource");
    if (verb === "watch") return watches.open(target, searchParams, response);
    if (verb === "list") return answerList(target, searchParams, request, response);
    answer(response, verb === "create" ? 201 : 200, change(verb, target, body, request.headers["content-type"] ?? ""));
  }

  function change(
    verb: string,
    { kind, namespace, name, subresource }: Target,
    body: string,
    contentType: string,
  ): unknown {
    if (verb === "get") return store.get(kind, namespace, name);
    if (verb === "delete") return store.delete(kind, namespace, name);
    const sent = parseBody(body);
    if (verb === "create") return store.create(kind, namespace, sent);
    if (verb === "update") return store.update(kind, namespace, name, subresource, () => sent);
    return store.update(kind, namespace, name, subresource, (before) => {
      try {
        // Whoever says no version in a patch means whichever there is.
        return applyPatch(before, sent, contentType) as ApiObject;
      } catch (error) {
        throw new Refusal(415, "UnsupportedMediaType", (error as Error).message);
      }
    });
  }

  function answerList(
    target: Target,
    query: URLSearchParams,
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const page = pageOf(target, query);
    const items = page.items.slice(page.from, page.to);
    const more = page.to < page.items.length;
    const next = more
      ? { continue: keepPage({ ...page, from: page.to }), remainingItemCount: page.items.length - page.to }
      : {};
    const metadata = { resourceVersion: `${page.version}`, ...next };
    const { name, apiVersion } = target.kind;
    const text = JSON.stringify({
      kind: `${name}List`,
      apiVersion,
      metadata,
      items: items.map(({ kind: _, apiVersion: __, ...item }) => item),
    });
    if (faults.cutListAfter !== undefined) {
      response.writeHead(200, { "content-type": "application/json" });
      response.write(text.slice(0, faults.cutListAfter), () => response.socket?.resetAndDestroy());
      faults.cutListAfter = undefined;
      return;
    }
    const zip = text.length > COMPRESSED_BYTES && /gzip/.test(`${request.headers["accept-encoding"]}`);
    response.writeHead(200, { "content-type": "application/json", ...(zip && { "content-encoding": "gzip" }) });
    response.end(zip ? gzipSync(text, { level: 1 }) : text);
  }

  function keepPage(page: Page): string {
    const token = Buffer.from(`${page.version}:${page.from}:${pages.size}`).toString("base64url");
    pages.set(token, page);
    return token;
  }

  function pageOf({ kind, namespace }: Target, query: URLSearchParams): Page {
    const limit = Number(query.get("limit") ?? "0") || Number.POSITIVE_INFINITY;
    const token = query.get("continue");
    const before = token === null ? undefined : pages.get(token);
    if (token !== null && (before === undefined || before.version < store.oldest)) {
      throw new Refusal(410, "Expired", "The provided continue parameter is too old");
    }
    if (before !== undefined) return { ...before, to: before.from + limit };
    const wanted = query.get("resourceVersion") ?? "";
    if (Number(wanted) > store.version) {
      throw new Refusal(504, "Timeout", `Too large resource version: ${wanted}, current: ${store.version}`);
    }
    const items = store.list(kind, namespace).filter(selectorOf(query));
    // From its cache the API server lists all at once.
    const whole = wanted === "0" && options.pagesAlways !== true;
    return { items, version: store.version, from: 0, to: whole ? Number.POSITIVE_INFINITY : limit };
  }

  let running = true;
  return {
    url,
    get ca() {
      return certificate?.ca;
    },
    token: AGENT_TOKEN,
    get admin() {
      return createAdmin({ url, token: ADMIN_TOKEN, ...(certificate !== undefined && { ca: certificate.ca }) });
    },
    store,
    faults,
    watches,
    requests,
    audit: () => requests.map(({ query: _, ...entry }) => entry),
    acceptTokens: (...accepted) => {
      tokens = new Set(accepted);
    },
    rotateCertificate: () => {
      certificate = makeCertificate();
      (server as HttpsServer).setSecureContext(certificate);
      closeSockets();
      return certificate.ca;
    },
    resetConnections: () => {
      watches.writeHalfALine();
      for (const socket of sockets) socket.resetAndDestroy();
    },
    stop: async () => {
      if (running) await stop();
      running = false;
    },
    start: async () => {
      if (!running) await listen(port);
      running = true;
    },
    close: async () => {
      watches.close();
      if (running) await stop();
      running = false;
    },
  };
}

interface Page {
  readonly items: readonly ApiObject[];
  readonly version: number;
  readonly from: number;
  readonly to: number;
}

const VERBS: Readonly<Record<string, string>> = { POST: "create", PUT: "update", PATCH: "patch", DELETE: "delete" };

function verbOf(method: string, target: Target | undefined, query: URLSearchParams): string {
  if (method !== "GET") return VERBS[method] ?? method.toLowerCase();
  if (target === undefined || target.name !== "") return "get";
  return ["1", "true"].includes(query.get("watch") ?? "") ? "watch" : "list";
}

function entryOf(
  verb: string,
  target: Target | undefined,
  query: URLSearchParams,
  status: () => number,
): DoubleRequest {
  const { kind, namespace = "", name = "", subresource = "" } = target ?? {};
  return {
    user: "agent",
    verb,
    group: kind?.group ?? "",
    resource: subresource === "" ? (kind?.plural ?? "") : `${kind?.plural}/${subresource}`,
    namespace,
    name,
    get status() {
      return status();
    },
    query: Object.fromEntries(query),
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

function parseBody(text: string): ApiObject {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, "BadRequest", "the body is not JSON");
  }
}

function refuse(response: ServerResponse, error: unknown): void {
  if (response.headersSent) return void response.destroy();
  const { status, reason } = error instanceof Refusal ? error : { status: 500, reason: "InternalError" };
  answer(response, status, statusOf(status, reason, (error as Error).message));
}

/** meta/v1 Status. */
export function statusOf(code: number, reason: string, message: string): object {
  return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
