// SPDX-License-Identifier: Apache-2.0
//
// Requests to the API server over HTTP/1.1: connections are kept and used again, answers are bounded in size and time, and
// what goes wrong is a KubeError.
import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { createGunzip } from "node:zlib";
import type { Access, Connection } from "./access.ts";
import { codeOfStatus, KubeError, type KubeErrorCode, quote } from "./errors.ts";
import { fieldsOf, textOf } from "./raw.ts";

/** How long the API server may take to begin its answer, and to go on with it, in milliseconds. */
const ANSWER_TIMEOUT_MS = 30_000;
/** Most bytes of an answer that is read whole. An object has at most 1.5 MiB in etcd, and more as JSON. */
const ANSWER_MAX_BYTES = 8 * 1024 * 1024;
/** Most bytes of an error's answer that are looked at. */
const ERROR_MAX_BYTES = 64 * 1024;
/** After so long without a byte the kernel asks whether the other end still lives; ten questions a second apart. */
const KEEP_ALIVE_MS = 30_000;
/** A connection that nobody used for so long is closed: load balancers forget connections, and a request would find out. */
const UNUSED_MS = 60_000;

export interface KubeRequest {
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  /** "/api/v1/nodes" */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Of `body`; of patches it says how they are meant. */
  readonly contentType?: string;
  readonly signal?: AbortSignal | undefined;
  /** Most time for all of it, in milliseconds; undefined: only silence is bounded. */
  readonly timeoutMs?: number;
  /** Most silence after the answer has begun; Infinity for a watch, whose reader has bounds of its own. */
  readonly silenceMs?: number;
  /** Called when an answer begins that is no error. */
  readonly onOpen?: () => void;
}

/** Gets the pieces of an answer as they come. What it throws ends the request. */
export type OnData = (piece: Uint8Array) => void;

/** What reflectors and clients need of HTTP. */
export interface KubeWire {
  /** The whole answer, JSON. @throws KubeError */
  json(request: KubeRequest): Promise<unknown>;
  /** The answer piece by piece; resolves at its end. @throws KubeError, and what `onData` throws */
  stream(request: KubeRequest, onData: OnData): Promise<void>;
}

export interface KubeHttpOptions {
  /** Sent as User-Agent: "flatnetd/1.2.3". */
  readonly userAgent: string;
  /** In place of the usual bounds, for tests. */
  readonly answerTimeoutMs?: number;
}

export class KubeHttp implements KubeWire {
  readonly #connection: Connection;
  readonly #options: KubeHttpOptions;
  /** Connections opened with the same credentials. */
  #pool: { readonly key: string; readonly agent: HttpAgent | HttpsAgent } | undefined;

  constructor(connection: Connection, options: KubeHttpOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** The server, for people. */
  get server(): string {
    return this.#connection.server;
  }

  async json(request: KubeRequest): Promise<unknown> {
    const pieces: Uint8Array[] = [];
    let size = 0;
    await this.stream(request, (piece) => {
      size += piece.length;
      if (size > ANSWER_MAX_BYTES) throw tooLong(request);
      pieces.push(piece);
    });
    try {
      return JSON.parse(Buffer.concat(pieces).toString());
    } catch (cause) {
      throw new KubeError("KUBE_PROTOCOL", `${inWords(request)}: the answer is not JSON`, { cause });
    }
  }

  async stream(request: KubeRequest, onData: OnData): Promise<void> {
    const access = await this.#connection.access();
    try {
      await this.#exchange(request, access, onData);
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== "KUBE_UNAUTHORIZED") throw error;
      const anew = await this.#connection.access(access);
      // The same again would be refused again.
      if (anew.token === access.token && anew.cert === access.cert) throw error;
      await this.#exchange(request, anew, onData);
    }
  }

  /** Closes what is kept open; requests in flight end with KUBE_UNREACHABLE. */
  close(): void {
    this.#pool?.agent.destroy();
    this.#pool = undefined;
  }

  async #exchange(request: KubeRequest, access: Access, onData: OnData): Promise<void> {
    const { signal, timeoutMs } = request;
    const ended = new AbortController();
    const giveUp = (code: KubeErrorCode, why: string) =>
      ended.abort(new KubeError(code, `${inWords(request)}: ${why} (${access.url.origin})`));
    const abandon = () => giveUp("KUBE_CLOSED", "given up");
    const answerMs = Math.min(
      this.#options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS,
      timeoutMs ?? Number.POSITIVE_INFINITY,
    );
    const silenceMs = request.silenceMs ?? this.#options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
    const total = timeoutMs === undefined ? undefined : setTimeout(() => late(timeoutMs), timeoutMs);
    let silence = setTimeout(() => late(answerMs), answerMs);
    const late = (ms: number) => giveUp("KUBE_TIMEOUT", `no answer within ${ms} ms`);
    const heard = () => {
      clearTimeout(silence);
      if (silenceMs !== Number.POSITIVE_INFINITY) silence = setTimeout(() => late(silenceMs), silenceMs);
    };
    let thrown: { readonly error: unknown } | undefined;
    signal?.addEventListener("abort", abandon);
    if (signal?.aborted) abandon();
    try {
      const response = await this.#send(request, access, ended.signal);
      heard();
      if (response.statusCode !== 200 && response.statusCode !== 201) throw await refusal(request, response, heard);
      request.onOpen?.();
      await readAll(response, (piece) => {
        heard();
        try {
          onData(piece);
        } catch (error) {
          thrown = { error };
          throw error;
        }
      });
    } catch (cause) {
      if (thrown !== undefined) throw thrown.error;
      // Whatever else broke, it did because we gave up.
      throw ended.signal.reason ?? asKubeError(request, access, cause);
    } finally {
      clearTimeout(silence);
      clearTimeout(total);
      signal?.removeEventListener("abort", abandon);
    }
  }

  #send(request: KubeRequest, access: Access, signal: AbortSignal): Promise<IncomingMessage> {
    const secure = access.url.protocol === "https:";
    const body = request.body === undefined ? undefined : JSON.stringify(request.body);
    const headers: Record<string, string | number> = {
      accept: "application/json",
      "accept-encoding": "gzip",
      "user-agent": this.#options.userAgent,
    };
    // Whoever can read what is sent in the clear could use it.
    if (secure && access.token !== undefined) headers["authorization"] = `Bearer ${access.token}`;
    if (body !== undefined) {
      headers["content-type"] = request.contentType ?? "application/json";
      headers["content-length"] = Buffer.byteLength(body);
    }
    const { method } = request;
    const options = { method, headers, agent: this.#agent(access, secure), signal };
    return new Promise((resolve, reject) => {
      const send = (again: boolean) => {
        const sent = (secure ? requestHttps : requestHttp)(urlOf(request, access), options, resolve);
        sent.on("socket", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
        sent.on("error", (error: NodeJS.ErrnoException) => {
          // The other end closed a kept connection just as it was to be used again: nobody has read the request.
          if (!again && sent.reusedSocket && error.code === "ECONNRESET" && method !== "POST") send(true);
          else reject(error);
        });
        sent.end(body);
      };
      send(false);
    });
  }

  /** Other credentials are other connections: those of before aren't used again once what they carry has ended. */
  #agent(access: Access, secure: boolean): HttpAgent | HttpsAgent {
    const { ca, cert, key, serverName, insecure } = access;
    const identity = JSON.stringify([access.url.origin, ca, cert, key, serverName, insecure]);
    if (this.#pool?.key === identity) return this.#pool.agent;
    if (this.#pool !== undefined) retire(this.#pool.agent);
    const options = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, timeout: UNUSED_MS };
    const agent = secure
      ? new HttpsAgent({
          ...options,
          ...(ca !== undefined && { ca }),
          ...(cert !== undefined && { cert }),
          ...(key !== undefined && { key }),
          ...(serverName !== undefined && { servername: serverName }),
          rejectUnauthorized: !insecure,
        })
      : new HttpAgent(options);
    this.#pool = { key: identity, agent };
    return agent;
  }
}

function retire(agent: HttpAgent): void {
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy();
}

function urlOf({ path, query = {} }: KubeRequest, { url }: Access): URL {
  const target = new URL(url.pathname.replace(/\/$/, "") + path, url);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) target.searchParams.set(name, value);
  return target;
}

/** Resolves at the answer's end; one that breaks off in the middle is an error. */
function readAll(response: IncomingMessage, onData: OnData): Promise<void> {
  return new Promise((resolve, reject) => {
    const zipped = response.headers["content-encoding"] === "gzip";
    const body = zipped ? response.pipe(createGunzip()) : response;
    const fail = (error: unknown) => {
      response.destroy();
      if (zipped) body.destroy();
      reject(error);
    };
    const broke = (cause?: unknown) => fail(new Error("the connection broke in the middle of the answer", { cause }));
    response.on("error", broke);
    response.on("close", () => {
      if (!response.complete) broke();
    });
    if (zipped) body.on("error", fail);
    body.on("end", resolve);
    body.on("data", (piece: Uint8Array) => {
      try {
        onData(piece);
      } catch (error) {
        fail(error);
      }
    });
  });
}

/** The error that an answer is, with the words of its meta/v1 Status. */
async function refusal(request: KubeRequest, response: IncomingMessage, heard: () => void): Promise<KubeError> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  await readAll(response, (piece) => {
    heard();
    size += piece.length;
    if (size <= ERROR_MAX_BYTES) pieces.push(piece);
  });
  const status = response.statusCode ?? 0;
  const text = Buffer.concat(pieces).toString();
  return statusError(inWords(request), status, parseStatus(text), retryAfterMs(response.headers["retry-after"]));
}

/** @param answer a meta/v1 Status, where it is one */
export function statusError(what: string, status: number, answer: unknown, retryAfterMs?: number): KubeError {
  const { message, reason } = fieldsOf(answer);
  const said = textOf(message) === "" ? `HTTP status ${status}` : textOf(message).slice(0, 400);
  const details = { status, reason: textOf(reason) || undefined, retryAfterMs };
  return new KubeError(codeOfStatus(status), `${what}: ${said}`, details);
}

/** undefined when it isn't JSON: what answered may be a proxy. */
function parseStatus(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Seconds; a date, which the API server never sends, is as nothing. */
function retryAfterMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : undefined;
}

function asKubeError(request: KubeRequest, { url }: Access, cause: unknown): unknown {
  const { code = "", message } = cause as NodeJS.ErrnoException;
  if (cause instanceof KubeError) return cause;
  const tls = /CERT|SIGNATURE|^ERR_(SSL|TLS|OSSL)|^EPROTO$|SELF_SIGNED|UNABLE_TO/.test(code);
  const said = message === "" || message === undefined ? code : message;
  return new KubeError(tls ? "KUBE_TLS" : "KUBE_UNREACHABLE", `${inWords(request)}: ${said} (${url.origin})`, {
    cause,
  });
}

function tooLong(request: KubeRequest): KubeError {
  return new KubeError("KUBE_PROTOCOL", `${inWords(request)}: the answer has more than ${ANSWER_MAX_BYTES} bytes`);
}

function inWords({ method, path }: KubeRequest): string {
  return `${method} ${quote(path).slice(1, -1)}`;
}
