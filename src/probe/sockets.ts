// SPDX-License-Identifier: Apache-2.0
//
// The probe's UDP sockets. Each question is answered from the address it was sent to: one socket for the node's addresses,
// and one for each subnet's, since the kernel would choose another address for an answer than the one that was asked.
import { randomBytes } from "node:crypto";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { formatAddress, parseAddress } from "../net/address.ts";
import { answerTo, DATAGRAM_BYTES, nonceIn, PROBE_PORT, questionOf } from "./datagram.ts";

export class ProbeError extends Error {
  override readonly name = "ProbeError";
  readonly code = "PROBE_SOCKET";
}

export interface ProbeEvents {
  /** Whether a question from there is answered: only nodes are. Canonical text. */
  readonly isNode: (address: string) => boolean;
  /** An answer came; `nonce` in hex. */
  readonly onAnswer: (nonce: string, from: string) => void;
  readonly onError: (error: unknown) => void;
}

export class ProbeSockets {
  /** By family: for questions of our own, and for answers from the node's addresses. */
  readonly #nodes = new Map<4 | 6, Socket>();
  readonly #subnets: Socket[] = [];
  readonly #events: ProbeEvents;

  private constructor(events: ProbeEvents) {
    this.#events = events;
  }

  /**
   * @param subnets addresses of this node's subnets, which it has
   * @throws ProbeError when a port is taken
   */
  static async open(subnets: readonly Uint8Array[], events: ProbeEvents): Promise<ProbeSockets> {
    const sockets = new ProbeSockets(events);
    try {
      for (const family of new Set(subnets.map(({ length }): 4 | 6 => (length === 4 ? 4 : 6)))) {
        sockets.#nodes.set(family, await sockets.#open(family, family === 4 ? "0.0.0.0" : "::"));
      }
      for (const address of subnets) {
        sockets.#subnets.push(await sockets.#open(address.length === 4 ? 4 : 6, formatAddress(address)));
      }
    } catch (error) {
      await sockets.close();
      throw error;
    }
    return sockets;
  }

  /** Asks; an answer is an event. @returns the number that it will have, in hex */
  ask(address: string, nonce: string): void {
    const socket = this.#nodes.get(address.includes(":") ? 6 : 4);
    const question = questionOf(Buffer.from(nonce, "hex"));
    // No route, a firewall's refusal: silence is what is waited for anyway, and it is told then.
    socket?.send(question, PROBE_PORT, address, () => {});
  }

  async close(): Promise<void> {
    const all = [...this.#nodes.values(), ...this.#subnets];
    await Promise.all(all.map((socket) => new Promise<void>((closed) => socket.close(closed))));
  }

  async #open(family: 4 | 6, address: string): Promise<Socket> {
    // Shared: one socket for all addresses, and others for some of them.
    const options = { reuseAddr: true } as const;
    const socket = createSocket(
      family === 4 ? { type: "udp4", ...options } : { type: "udp6", ipv6Only: true, ...options },
    );
    await new Promise<void>((bound, failed) => {
      socket.once("error", (cause) =>
        failed(new ProbeError(`the probe can't listen on ${address} port ${PROBE_PORT}: ${cause.message}`, { cause })),
      );
      socket.bind(PROBE_PORT, address, bound);
    });
    socket.on("error", this.#events.onError);
    socket.on("message", (message, remote) => this.#receive(socket, message, remote));
    return socket;
  }

  #receive(socket: Socket, message: Buffer, { address, port }: RemoteInfo): void {
    if (message.length !== DATAGRAM_BYTES) return;
    const from = canonical(address);
    const answer = answerTo(message);
    if (answer !== undefined) {
      if (this.#events.isNode(from)) socket.send(answer, port, address, () => {});
      return;
    }
    const nonce = nonceIn(message);
    if (nonce !== undefined) this.#events.onAnswer(nonce, from);
  }
}

/** A number that nobody can guess, in hex. */
export function newNonce(): string {
  return randomBytes(8).toString("hex");
}

/** Link-local addresses come with their zone, and no node is known by one. */
function canonical(address: string): string {
  return address.includes("%") ? address : formatAddress(parseAddress(address));
}
