// SPDX-License-Identifier: Apache-2.0
//
// One packet each way. The receiver answers with what it saw, so that every answer carries its own evidence: from which
// address it came, and at which it arrived.
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { connect, createServer, type Server } from "node:net";
import { type Family, formatAddress, parseAddress } from "../net/address.ts";
import type { Protocol } from "./cells.ts";
import { ip } from "./ip.ts";

/** Longest answer in bytes; a datagram of this size passes every MTU that IPv6 allows (1280). */
const MAX_ANSWER = 1024;

export interface Target {
  readonly address: string;
  readonly port: number;
  readonly family: Family;
  readonly protocol: Protocol;
}

/** What a probe learned; `local` is the address of the prober's own socket. */
export type Probed =
  | {
      readonly kind: "answered";
      readonly receiver: string;
      readonly saw: string;
      readonly reachedAt: string;
      readonly local: string;
    }
  | { readonly kind: "failed"; readonly error: string };

interface Answer {
  readonly receiver: string;
  readonly saw: string;
  readonly reachedAt: string;
}

export interface OwnAddress {
  readonly address: string;
  readonly family: Family;
}

/** The addresses of this network namespace that others could use. */
export async function listOwnAddresses(): Promise<OwnAddress[]> {
  // Not os.networkInterfaces(): it leaves a link out until it is IFF_RUNNING, which the kernel says up to a second late.
  return ownAddresses(JSON.parse(await ip(["-j", "address", "show", "up"])) as IpLink[]);
}

/** A link in the output of `ip -j address`; iproute2 prints empty objects for links that it left out. */
export interface IpLink {
  readonly flags?: readonly string[];
  readonly addr_info?: readonly { readonly local?: string; readonly family?: string; readonly scope?: string }[];
}

/** Each address once, without those of loopback and of the link only. */
export function ownAddresses(links: readonly IpLink[]): OwnAddress[] {
  const own = new Map<string, Family>();
  for (const link of links) {
    if (link.flags?.includes("LOOPBACK")) continue;
    for (const { local, family, scope } of link.addr_info ?? []) {
      if (local !== undefined && scope !== "link") own.set(canonical(local), family === "inet" ? 4 : 6);
    }
  }
  return [...own].map(([address, family]) => ({ address, family }));
}

function canonical(text: string | undefined): string {
  // A zone ("%eth0") is said of link-local addresses only; nothing here compares those.
  return text === undefined ? "" : formatAddress(parseAddress(text.replace(/%.*$/, "")));
}

/**
 * Answers on the port over TCP and UDP until closed: TCP at every address, UDP at each of the given ones, because only a
 * socket bound to one address knows at which a datagram arrived.
 * @returns a function that closes all of it.
 */
export async function answerProbes(
  receiver: string,
  port: number,
  families: readonly Family[],
  own: readonly OwnAddress[],
): Promise<() => void> {
  const open: (Server | UdpSocket)[] = [];
  const close = () => {
    for (const socket of open) socket.close();
  };
  try {
    for (const family of families) {
      const server = createServer((socket) => {
        socket.on("error", () => socket.destroy());
        socket.setTimeout(5000, () => socket.destroy());
        const answer: Answer = {
          receiver,
          saw: canonical(socket.remoteAddress),
          reachedAt: canonical(socket.localAddress),
        };
        socket.end(`${JSON.stringify(answer)}\n`);
        socket.resume();
      });
      open.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host: family === 4 ? "0.0.0.0" : "::", port, ipv6Only: family === 6, backlog: 511 }, resolve);
      });
    }
    for (const { address, family } of own) {
      if (!families.includes(family)) continue;
      const socket = createSocket(family === 4 ? "udp4" : "udp6");
      try {
        await new Promise<void>((resolve, reject) => {
          socket.once("error", reject);
          socket.bind({ address, port }, resolve);
        });
      } catch (error) {
        socket.close();
        // An address that is there but cannot be used, such as a tentative one: whoever probes it will say so.
        if ((error as NodeJS.ErrnoException).code === "EADDRNOTAVAIL") continue;
        throw error;
      }
      open.push(socket);
      socket.on("error", () => {});
      socket.on("message", (message, from) => {
        if (message.length > 64) return;
        const answer = {
          receiver,
          saw: canonical(from.address),
          reachedAt: address,
          nonce: message.toString("latin1"),
        };
        // An answer that cannot be sent is one that does not come: the prober's deadline says so.
        socket.send(JSON.stringify(answer), from.port, from.address, () => {});
      });
    }
  } catch (cause) {
    close();
    throw cause;
  }
  return close;
}

/** Never rejects, and ends within the deadline. */
export function probe(target: Target, timeoutMs: number): Promise<Probed> {
  return target.protocol === "tcp" ? probeTcp(target, timeoutMs) : probeUdp(target, timeoutMs);
}

function probeTcp(target: Target, timeoutMs: number): Promise<Probed> {
  return new Promise((resolve) => {
    const socket = connect({ host: target.address, port: target.port, family: target.family });
    const chunks: Buffer[] = [];
    let size = 0;
    let local = "";
    const finish = (probed: Probed) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(probed);
    };
    const timer = setTimeout(() => finish(failed(`no answer in ${timeoutMs} ms`)), timeoutMs);
    socket.on("connect", () => {
      local = canonical(socket.localAddress);
    });
    socket.on("data", (chunk) => {
      size += chunk.length;
      if (size > MAX_ANSWER) finish(failed("something else answered"));
      chunks.push(chunk);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => finish(failed(explain(error))));
    socket.on("end", () => finish(read(Buffer.concat(chunks).toString("utf8"), local)));
  });
}

function probeUdp(target: Target, timeoutMs: number): Promise<Probed> {
  return new Promise((resolve) => {
    const socket = createSocket(target.family === 4 ? "udp4" : "udp6");
    const nonce = Math.random().toString(36).slice(2, 14);
    let local = "";
    const finish = (probed: Probed) => {
      clearTimeout(timer);
      clearTimeout(again);
      socket.close();
      resolve(probed);
      finished = true;
    };
    let finished = false;
    const send = () => {
      // Connected, so that the kernel tells of ICMP errors, and drops what comes from any other address.
      socket.send(nonce, (error) => {
        if (error && !finished) finish(failed(explain(error)));
      });
    };
    const timer = setTimeout(() => finish(failed(`no answer in ${timeoutMs} ms`)), timeoutMs);
    // Datagrams may be lost: the second comes half-way.
    const again = setTimeout(send, timeoutMs / 2);
    socket.on("error", (error) => {
      if (!finished) finish(failed(explain(error)));
    });
    socket.on("message", (message) => {
      const text = message.toString("utf8");
      if (message.length <= MAX_ANSWER && text.includes(`"nonce":"${nonce}"`)) finish(read(text, local));
    });
    socket.connect(target.port, target.address, (error?: Error) => {
      if (finished) return;
      if (error !== undefined && error !== null) return finish(failed(explain(error)));
      local = canonical(socket.address().address);
      send();
    });
  });
}

function read(text: string, local: string): Probed {
  try {
    const answer = JSON.parse(text) as Partial<Answer>;
    const { receiver, saw, reachedAt } = answer;
    if (typeof receiver === "string" && typeof saw === "string" && typeof reachedAt === "string") {
      return { kind: "answered", receiver, saw, reachedAt, local };
    }
  } catch {
    // Not JSON: the same as JSON of another kind.
  }
  return failed("something else answered");
}

function failed(error: string): Probed {
  return { kind: "failed", error };
}

const EXPLAINED: Record<string, string> = {
  ECONNREFUSED: "refused, nobody listens there",
  ENETUNREACH: "network unreachable",
  EHOSTUNREACH: "host unreachable",
  EACCES: "administratively prohibited",
  EPERM: "forbidden by a rule on the sender's side",
  EADDRNOTAVAIL: "the sender has no address for it",
};

function explain(error: NodeJS.ErrnoException): string {
  const code = error.code ?? "";
  return EXPLAINED[code] === undefined ? error.message : `${EXPLAINED[code]} (${code})`;
}
