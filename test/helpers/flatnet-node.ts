// SPDX-License-Identifier: Apache-2.0
//
// A node by itself: a network namespace, the built flatnetd in it, and the built plugin run for its pods. What became of
// the kernel is asked of iproute2; what became of the store, of the daemon's ListAllocations.

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import {
  IpamServiceDefinition,
  ListAllocationsRequest,
  ListAllocationsResponse,
} from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { LINK_PREFIX, ROUTE_PROTOCOL } from "../../src/net/names.ts";
import { type Cleanup, CommandError, type Daemon, type Finished, startDaemon } from "./daemon.ts";
import { createNetns, type Netns } from "./netns.ts";
import { built, type CniEnvironment, cniEnvironment, type Pod, runPlugin } from "./plugin.ts";

export interface NodeOptions {
  readonly podCidrs: readonly string[];
  /** Content of the peers file; without it the daemon gets none. */
  readonly peers?: string;
  /** Further flags of the daemon. */
  readonly flags?: readonly string[];
  /** Where the programs are; those of dist/ when missing. */
  readonly programs?: Programs;
}

/** Paths of a plugin and a daemon, which may be of different versions. Asked whenever one is started. */
export interface Programs {
  flatnet: string;
  flatnetd: string;
}

/** What a plugin leaves on a node for a pod. All empty when there are no pods. */
export interface Traces {
  /** Names of host ends. */
  readonly links: string[];
  /** Destinations of the host routes to pods. */
  readonly routes: string[];
  /** Addresses given out, as the daemon says. */
  readonly records: string[];
  /** Names in the journal directory, temporary files too. */
  readonly journal: string[];
}

export const NO_TRACES: Traces = { links: [], routes: [], records: [], journal: [] };

/** A line of the daemon's log. */
export type LogLine = Readonly<Record<string, unknown>>;

export class FlatnetNode {
  readonly netns: Netns;
  readonly directory: string;
  readonly socket: string;
  readonly stateDir: string;
  readonly journalDir: string;
  readonly peersFile: string;
  readonly #options: NodeOptions;
  #daemon: Daemon | undefined;

  constructor(netns: Netns, directory: string, options: NodeOptions) {
    this.netns = netns;
    this.directory = directory;
    this.socket = join(directory, "run", "flatnetd.sock");
    this.stateDir = join(directory, "state");
    this.journalDir = join(this.stateDir, "journal");
    this.peersFile = join(directory, "peers.yaml");
    this.#options = options;
    if (options.peers !== undefined) writeFileSync(this.peersFile, options.peers);
  }

  /** The daemon's flags; `more` wins. */
  flags(...more: string[]): string[] {
    return [
      ...["--node-name", "node-1", "--state-dir", this.stateDir, "--socket", this.socket],
      ...this.#options.podCidrs.flatMap((cidr) => ["--pod-cidr", cidr]),
      ...(this.#options.peers === undefined ? [] : ["--peers", this.peersFile]),
      ...(this.#options.flags ?? []),
      ...more,
    ];
  }

  /** A command line of the daemon in the node's namespace. */
  command(...flags: string[]): string[] {
    return this.netns.command(this.#program("flatnetd"), ...flags);
  }

  #program(name: keyof Programs): string {
    return this.#options.programs?.[name] ?? built(name);
  }

  /** Starts the daemon and waits until it serves. */
  async start(...more: string[]): Promise<Daemon> {
    if (this.#daemon !== undefined) throw new CommandError("the daemon runs already");
    this.#daemon = await startDaemon({
      argv: this.command(...this.flags(...more)),
      ready: (output) => output.includes('"msg":"serving"'),
    });
    return this.#daemon;
  }

  /** Ends the daemon, if it runs, and returns its exit status: null when a signal ended it. */
  async stop(signal?: NodeJS.Signals): Promise<number | null> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    return daemon === undefined ? null : await daemon.stop(signal);
  }

  get daemon(): Daemon {
    if (this.#daemon === undefined) throw new CommandError("the daemon does not run");
    return this.#daemon;
  }

  /** What the daemon that runs has logged. Throws when a line is not a JSON object. */
  log(): LogLine[] {
    return parseLog(this.daemon.output());
  }

  /** The plugin's configuration for this node. */
  conf(more: object = {}): string {
    const { socket, journalDir } = this;
    return JSON.stringify({ cniVersion: "1.1.0", name: "tests", type: "flatnet", socket, journalDir, ...more });
  }

  /** Runs a verb for a pod. `env` and `conf` override what a runtime would give; an empty variable is a missing one. */
  run(
    verb: string,
    pod: Pod,
    { env = {}, conf = {} }: { env?: CniEnvironment; conf?: object } = {},
  ): Promise<Finished> {
    return runPlugin(this.netns, { ...cniEnvironment(verb, pod), ...env }, this.conf(conf), this.#program("flatnet"));
  }

  add(pod: Pod, conf: object = {}): Promise<Finished> {
    return this.run("ADD", pod, { conf });
  }

  del(pod: Pod, conf: object = {}): Promise<Finished> {
    return this.run("DEL", pod, { conf });
  }

  /** Releases everything that was given out, so that a test that failed is not the failure of those after it. */
  async delAll(): Promise<void> {
    for (const { attachment } of (await this.allocations()).allocations) {
      if (attachment === undefined) continue;
      const { network, containerId, ifname } = attachment;
      const env = { CNI_COMMAND: "DEL", CNI_CONTAINERID: containerId, CNI_IFNAME: ifname };
      await runPlugin(this.netns, env, this.conf({ name: network }), this.#program("flatnet"));
    }
  }

  allocations(): Promise<ListAllocationsResponse> {
    return listAllocations(this.socket);
  }

  async traces(): Promise<Traces> {
    const { allocations } = await this.allocations();
    const records = allocations.flatMap(({ addresses }) => addresses).sort();
    return { ...(await this.tracesWithoutDaemon()), records };
  }

  /** Of a node whose daemon doesn't run; `records` is empty. */
  async tracesWithoutDaemon(): Promise<Traces> {
    const links: { ifname: string }[] = JSON.parse(await this.netns.ip("-json", "link"));
    const routes = [...(await listRoutes(this.netns, 4)), ...(await listRoutes(this.netns, 6))];
    return {
      links: links.map(({ ifname }) => ifname).filter((name) => name.startsWith(LINK_PREFIX)),
      routes: routes
        .filter(({ protocol, gateway, type }) => protocol === `${ROUTE_PROTOCOL}` && gateway === undefined && !type)
        .map(({ dst }) => dst)
        .sort(),
      records: [],
      journal: existsSync(this.journalDir) ? readdirSync(this.journalDir) : [],
    };
  }
}

/** Makes a node. Its daemon is started by `start`; `cleanup` ends whatever runs and removes all files. */
export async function createNode(label: string, cleanup: Cleanup, options: NodeOptions): Promise<FlatnetNode> {
  const netns = await createNetns(label, cleanup);
  const directory = mkdtempSync(join(tmpdir(), "flatnet-"));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const node = new FlatnetNode(netns, directory, options);
  cleanup.add(() => node.stop());
  return node;
}

/** The lines of a daemon's log, each of which has to be one JSON object. */
export function parseLog(output: string): LogLine[] {
  return output
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const value: unknown = JSON.parse(line);
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new CommandError(`a line of the log is no JSON object: ${line}`);
      }
      return value as LogLine;
    });
}

/** A route as `ip -json route` has it; unicast has no type. */
export interface IpRoute {
  readonly dst: string;
  readonly type?: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly scope?: string;
  readonly metric?: number;
}

/** The main table of a family, numbers as numbers: a host's rt_protos may have a name for ours. */
export async function listRoutes(netns: Netns, family: 4 | 6): Promise<IpRoute[]> {
  return JSON.parse((await netns.ip(`-${family}`, "-N", "-json", "route", "show", "table", "254")) || "[]");
}

async function listAllocations(socket: string): Promise<ListAllocationsResponse> {
  const Client = makeGenericClientConstructor({}, "IpamService");
  const client = new Client(`unix:${socket}`, credentials.createInsecure());
  const path = `/${IpamServiceDefinition.fullName}/${IpamServiceDefinition.methods.listAllocations.name}`;
  try {
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        (request: ListAllocationsRequest) => Buffer.from(ListAllocationsRequest.encode(request).finish()),
        (bytes) => ListAllocationsResponse.decode(bytes),
        {},
        { deadline: Date.now() + 10_000 },
        (error, response) => (error === null ? resolve(response as ListAllocationsResponse) : reject(error)),
      );
    });
  } finally {
    client.close();
  }
}
