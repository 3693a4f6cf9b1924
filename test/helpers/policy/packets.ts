// SPDX-License-Identifier: Apache-2.0
//
// First packets of connections between network namespaces, many at a time, and which of them arrived. Each has a number of its own
// as its source port, so that conntrack has never seen it and its end knows it again.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { type Cleanup, CommandError, waitFor } from "../daemon.ts";
import { inNetns } from "../netns.ts";
import type { Flow } from "./evaluator.ts";

const SCRIPT = new URL("./packets.script.ts", import.meta.url).pathname;

export interface FirstPacket {
  readonly from: string;
  readonly to: string;
  readonly protocol: "TCP" | "UDP" | "SCTP" | "ICMP";
  /** Of the destination; none for ICMP. */
  readonly port?: number;
  /** 1024 to 65535: the source port, or the echo's identifier. */
  readonly id: number;
}

export type ArrivedPacket = Omit<FirstPacket, "to" | "port"> & { readonly port: number | undefined };

export type PacketCommand = { readonly send: readonly FirstPacket[] } | { readonly take: true };

const FIRST_ID = 20_000;
const LAST_ID = 60_000;
const SENTINEL_PORT = 9;
/** So long without another arrival is the end of them, in milliseconds. */
const QUIET_MS = 10;

/** A first packet that may be sent to somebody else than who gets it. */
export interface SentFlow extends Flow {
  /** Where it is sent to, if that isn't where it arrives: a service, or a port of a node. */
  readonly through?: { readonly address: string; readonly port: number };
}

/** One network namespace with the addresses that packets are sent from and to. */
interface End {
  readonly addresses: readonly string[];
  /** From which packets always arrive here; also of ends that are open. */
  readonly trusted: readonly string[];
  ask(command: PacketCommand): Promise<unknown[]>;
}

export class Packets {
  readonly #cleanup: Cleanup;
  readonly #ends: End[] = [];
  #id = FIRST_ID;

  /** @param cleanup ends the processes */
  constructor(cleanup: Cleanup) {
    this.#cleanup = cleanup;
  }

  /**
   * Packets may come from and go to these addresses from now on, which the namespace of a file has.
   * @param trusted addresses of other ends whose packets always arrive here, whatever is being tried: of a pod those of its node
   */
  async open(netns: string, addresses: readonly string[], trusted: readonly string[]): Promise<void> {
    this.#ends.push({ addresses, trusted, ask: await this.#start(netns) });
  }

  async #start(netns: string): Promise<End["ask"]> {
    const [program = "", ...args] = inNetns(netns, process.execPath, SCRIPT);
    const child: ChildProcessWithoutNullStreams = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args]);
    this.#cleanup.add(() => void child.kill("SIGKILL"));
    child.stdin.on("error", () => {});
    let complaints = "";
    child.stderr.on("data", (chunk) => {
      complaints += chunk;
    });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const next = async () => {
      const { value, done } = await lines.next();
      if (done) throw new CommandError(`packets.script.ts in ${netns} ended: ${complaints}`);
      return value;
    };
    await next();
    let last: Promise<unknown> = Promise.resolve();
    return async (command) => {
      const before = last;
      const answer = (async () => {
        await before;
        child.stdin.write(`${JSON.stringify(command)}\n`);
        return JSON.parse(await next());
      })();
      last = answer.catch(() => {});
      return answer;
    };
  }

  /**
   * Sends the first packet of each flow whose ends are open, and tells which arrived. What doesn't is not waited for: after all
   * the others a packet is sent that does.
   */
  async arriving<F extends SentFlow>(flows: readonly F[]): Promise<Set<F>> {
    const byKey = new Map<string, F>();
    const sending = new Map<End, FirstPacket[]>();
    for (const flow of flows) {
      const [source, destination] = [this.#endOf(flow.source), this.#endOf(flow.destination)];
      if (source === undefined || destination === undefined)
        throw new CommandError(`no end of ${JSON.stringify(flow)}`);
      const id = this.#nextId();
      const { address: to, port } = flow.through ?? { address: flow.destination, port: flow.port };
      const packet = { from: flow.source, to, protocol: flow.protocol, id };
      sending.set(source, [...(sending.get(source) ?? []), port === undefined ? packet : { ...packet, port }]);
      byKey.set(`${flow.source} ${flow.protocol} ${flow.port ?? ""} ${id}`, flow);
    }
    for (const [end, send] of sending) {
      // Refused at once is denied too: what the packet meets may say so.
      for (let at = 0; at < send.length; at += 100) await end.ask({ send: send.slice(at, at + 100) });
    }
    const there = new Set<F>();
    const waiting = new Set(await this.#sendSentinels());
    const look = async () => {
      const before = there.size;
      for (const packet of await this.#take()) {
        const flow = byKey.get(`${packet.from} ${packet.protocol} ${packet.port ?? ""} ${packet.id}`);
        if (flow !== undefined) there.add(flow);
        waiting.delete(packet.id);
      }
      return there.size > before;
    };
    await waitFor(async () => {
      await look();
      return waiting.size === 0;
    });
    // Another processor may still have some of those that were sent before.
    do await sleep(QUIET_MS);
    while (await look());
    return there;
  }

  async #take(): Promise<ArrivedPacket[]> {
    return (await Promise.all(this.#ends.map((end) => end.ask({ take: true })))).flat() as ArrivedPacket[];
  }

  /** A packet to each address that always arrives. @returns their numbers */
  async #sendSentinels(): Promise<number[]> {
    const ids: number[] = [];
    for (const { addresses, trusted } of this.#ends) {
      for (const to of addresses) {
        const from = trusted.find((address) => address.includes(":") === to.includes(":"));
        const end = from === undefined ? undefined : this.#endOf(from);
        if (from === undefined || end === undefined) throw new CommandError(`nobody is trusted at ${to}`);
        const id = this.#nextId();
        ids.push(id);
        await end.ask({ send: [{ from, to, protocol: "UDP", port: SENTINEL_PORT, id }] });
      }
    }
    return ids;
  }

  #endOf(address: string): End | undefined {
    return this.#ends.find(({ addresses }) => addresses.includes(address));
  }

  #nextId(): number {
    this.#id = this.#id >= LAST_ID ? FIRST_ID : this.#id + 1;
    return this.#id;
  }
}
