// SPDX-License-Identifier: Apache-2.0
//
// The daemon's small HTTP servers, for those who look at it from outside: GET and HEAD of a few paths.
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface HttpAnswer {
  readonly code: number;
  readonly type: string;
  readonly body: string;
}

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves until it is closed.
 * @param address port 0 takes a free one
 * @param pages what is answered at each path; a page that fails is answered by 500 and its message
 * @throws as node:net does when the address can't be had
 */
export async function serveHttp(
  { host, port }: { readonly host: string; readonly port: number },
  pages: Readonly<Record<string, () => Promise<HttpAnswer>>>,
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  const there = `there is ${Object.keys(pages).join(", ")}\n`;
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0] ?? "";
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
    if (page === undefined) return answer(response, { code: 404, type: "text/plain", body: there });
    if (request.method !== "GET" && request.method !== "HEAD")
      return answer(response, { code: 405, type: "text/plain", body: "" });
    page().then(
      (found) => answer(response, found),
      (error: unknown) => {
        onError(error);
        const body = `${error instanceof Error ? error.message : error}\n`;
        answer(response, { code: 500, type: "text/plain", body });
      },
    );
  });
  // Somebody who never finishes a request holds a socket, not the daemon.
  server.requestTimeout = 10_000;
  server.headersTimeout = 5_000;
  server.maxConnections = 16;
  await new Promise<void>((listening, failed) => {
    server.once("error", failed);
    server.listen(port, host, () => {
      server.off("error", failed);
      listening();
    });
  });
  server.on("error", onError);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}

function answer(response: ServerResponse, { code, type, body }: HttpAnswer): void {
  response.writeHead(code, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(response.req.method === "HEAD" ? "" : body);
}
