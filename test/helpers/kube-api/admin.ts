// SPDX-License-Identifier: Apache-2.0
//
// What an administrator, a kubelet or a controller does at an API server, for the tests: plain requests, each a connection of
// its own, so that it is served whatever the test has done to others.
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";

/** An object as the API server has it. */
export interface ApiObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

/** The API server said no. `status` is that of HTTP, `reason` the one of its Status object. */
export class ApiRefusal extends Error {
  override readonly name = "ApiRefusal";
  readonly status: number;
  readonly reason: string;
  constructor(what: string, status: number, body: string) {
    const answer: { message?: string; reason?: string } = parse(body);
    super(`${what}: ${status} ${answer.message ?? body}`);
    this.status = status;
    this.reason = answer.reason ?? "";
  }
}

export interface Admin {
  /** @param path "/api/v1/nodes/node-1/status" @throws ApiRefusal */
  request<Answer = ApiObject>(method: string, path: string, body?: object, contentType?: string): Promise<Answer>;
  get(path: string): Promise<ApiObject>;
  create(collection: string, object: object): Promise<ApiObject>;
  /** An RFC 7386 merge patch. */
  patch(path: string, patch: object): Promise<ApiObject>;
  delete(path: string): Promise<unknown>;
}

/**
 * @param url of the API server
 * @param token absent where nobody asks for one
 * @param ca PEM, of an https URL
 */
export function createAdmin({ url, token, ca }: { url: string; token?: string; ca?: string }): Admin {
  const request = <Answer>(method: string, path: string, body?: object, contentType = "application/json") =>
    new Promise<Answer>((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = {
        accept: "application/json",
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(text !== undefined && { "content-type": contentType, "content-length": Buffer.byteLength(text) }),
      };
      const send = url.startsWith("https:") ? httpsRequest : httpRequest;
      const asked = send(new URL(path, url), { method, headers, agent: false, ...(ca !== undefined && { ca }) });
      asked.on("error", reject);
      asked.on("response", (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const answer = Buffer.concat(chunks).toString();
          const status = response.statusCode ?? 0;
          if (status < 200 || status > 299) reject(new ApiRefusal(`${method} ${path}`, status, answer));
          else resolve(parse(answer));
        });
      });
      asked.end(text);
    });
  return {
    request,
    get: (path) => request("GET", path),
    create: (collection, object) => request("POST", collection, object),
    patch: (path, patch) => request("PATCH", path, patch, "application/merge-patch+json"),
    delete: (path) => request("DELETE", path),
  };
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text);
  } catch {
    return { message: text } as T;
  }
}
