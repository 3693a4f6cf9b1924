// SPDX-License-Identifier: Apache-2.0
//
// The node of a model run: its namespaces, the real programs in it, and what is to be seen of them by iproute2, nft, the
// daemon's ListAllocations and the journal's files.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LINK_PREFIX, ROUTE_PROTOCOL } from "../../../src/net/names.ts";
import { Cleanup, run } from "../daemon.ts";
import { type FlatnetNode, type IpRoute, listRoutes } from "../flatnet-node.ts";
import { createNetns, type Netns } from "../netns.ts";

/** What a pod has of one link. */
export interface SeenEnd {
  readonly ifname: string;
  /** Of global scope. */
  readonly addresses: readonly string[];
  /** Families of the default routes out of it. */
  readonly defaults: readonly (4 | 6)[];
}

export interface SeenRecord {
  readonly key: string;
  readonly addresses: readonly string[];
  readonly hostIfname: string;
  readonly netns: string;
  /** "tcp 8080 on * to 80". */
  readonly ports: readonly string[];
}

export interface Seen {
  /** Names of host ends. */
  readonly links: ReadonlySet<string>;
  /** Host routes: destination and device. */
  readonly routes: readonly { readonly dst: string; readonly dev: string }[];
  /** By CNI_NETNS; loopback left out. */
  readonly pods: ReadonlyMap<string, readonly SeenEnd[]>;
  /** Keys of the journal's entries. */
  readonly notes: readonly string[];
  /** Other names in the journal. */
  readonly litter: readonly string[];
  /** Undefined when the daemon is down. */
  readonly daemon:
    | {
        readonly records: readonly SeenRecord[];
        /** Used addresses of each subnet. */
        readonly used: readonly number[];
        /** Elements of the hostPort maps: "tcp 8080 on * to 10.77.1.2:80". */
        readonly ports: readonly string[];
      }
    | undefined;
}

export class Reality {
  readonly node: FlatnetNode;
  readonly #cleanup: Cleanup;
  /** Those that are alive, by path. */
  readonly #pods = new Map<string, { readonly netns: Netns; readonly cleanup: Cleanup }>();

  constructor(node: FlatnetNode, cleanup: Cleanup) {
    this.node = node;
    this.#cleanup = cleanup;
  }

  async createPod(): Promise<Netns> {
    const cleanup = new Cleanup();
    const netns = await createNetns("model", cleanup);
    // Nothing is left to do for one that has been removed by then.
    this.#cleanup.add(() => cleanup.run());
    this.#pods.set(netns.path, { netns, cleanup });
    return netns;
  }

  /** @throws Error when there is none (any more) */
  pod(path: string): Netns {
    const pod = this.#pods.get(path);
    if (pod === undefined) throw new Error(`there is no pod at ${path}`);
    return pod.netns;
  }

  async removePod(path: string): Promise<void> {
    await this.#pods.get(path)?.cleanup.run();
    this.#pods.delete(path);
  }

  async see(daemonUp: boolean): Promise<Seen> {
    const { node } = this;
    // First: a link that is ending takes its routes with it before it goes, so that no route is seen without its link.
    const links: { ifname: string }[] = JSON.parse(await node.netns.ip("-json", "link"));
    const [v4, v6, ends, seen] = await Promise.all([
      listRoutes(node.netns, 4),
      listRoutes(node.netns, 6),
      seeEnds([...this.#pods.values()].map(({ netns }) => netns)),
      daemonUp ? this.#seeDaemon() : undefined,
    ]);
    const names = existsSync(node.journalDir) ? readdirSync(node.journalDir) : [];
    const isNote = (name: string) => name.endsWith(".json") && !name.startsWith(".");
    return {
      links: new Set(links.map(({ ifname }) => ifname).filter((name) => name.startsWith(LINK_PREFIX))),
      routes: [...v4, ...v6]
        .filter(({ protocol, type }) => protocol === `${ROUTE_PROTOCOL}` && type === undefined)
        .map(({ dst, dev = "" }) => ({ dst, dev })),
      pods: ends,
      notes: names.filter(isNote).flatMap((name) => this.#noteKey(join(node.journalDir, name))),
      litter: names.filter((name) => !isNote(name)),
      daemon: seen,
    };
  }

  /** Nothing for a note that went while it was looked at. */
  #noteKey(path: string): string[] {
    try {
      const { containerId, ifname } = JSON.parse(readFileSync(path, "utf8"));
      return [`${containerId}/${ifname}`];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  async #seeDaemon(): Promise<NonNullable<Seen["daemon"]>> {
    const { node } = this;
    const [{ allocations, subnets }, ruleset] = await Promise.all([
      node.allocations(),
      run(node.netns.command("nft", "-j", "list", "table", "inet", "flatnet")),
    ]);
    return {
      records: allocations.map(({ attachment, addresses, hostIfname, netns, portMappings }) => ({
        key: `${attachment?.containerId}/${attachment?.ifname}`,
        addresses,
        hostIfname,
        netns,
        ports: portMappings.map(
          ({ protocol, hostPort, hostIp, containerPort }) =>
            `${protocol} ${hostPort} on ${hostIp === "" ? "*" : hostIp} to ${containerPort}`,
        ),
      })),
      used: subnets.map(({ used }) => used),
      ports: portsIn(ruleset),
    };
  }
}

/** What ip(8) is asked in each pod. Of every table: a pod's further interface has one of its own. */
const QUESTIONS = ["address", "-4 route show default table all", "-6 route show default table all"];

/** In one process for all pods: to start three for each would hold up the test for seconds. */
async function seeEnds(pods: readonly Netns[]): Promise<Map<string, SeenEnd[]>> {
  const questions = QUESTIONS.map((question) => `echo "$(ip -n "$name" -json ${question})"`).join("; ");
  const answers = (await run(["sh", "-c", `for name; do ${questions}; done`, "sh", ...pods.map(({ name }) => name)]))
    .split("\n")
    .map((line) => JSON.parse(line || "[]"));
  return new Map(pods.map(({ path }, i) => [path, endsOf(...(answers.slice(3 * i, 3 * i + 3) as PodAnswers))]));
}

type PodAnswers = [
  links: { ifname: string; addr_info: { local: string; scope: string }[] }[],
  v4: IpRoute[],
  v6: IpRoute[],
];

function endsOf(...[links, v4, v6]: PodAnswers): SeenEnd[] {
  const hasDefault = (routes: readonly IpRoute[], ifname: string) => routes.some(({ dev }) => dev === ifname);
  return links
    .filter(({ ifname }) => ifname !== "lo")
    .map(({ ifname, addr_info }) => ({
      ifname,
      addresses: addr_info.filter(({ scope }) => scope === "global").map(({ local }) => local),
      defaults: [...(hasDefault(v4, ifname) ? [4 as const] : []), ...(hasDefault(v6, ifname) ? [6 as const] : [])],
    }));
}

/** The elements of the hostPort maps in nft's JSON. */
function portsIn(ruleset: string): string[] {
  type Part = string | number;
  type Element = readonly [{ concat: Part[] }, { concat: Part[] }];
  const { nftables } = JSON.parse(ruleset) as { nftables: { map?: { name: string; elem?: Element[] } }[] };
  return nftables.flatMap(({ map }) =>
    (map?.elem ?? []).map(([key, target]) => {
      const on = map?.name.endsWith("_on") ? key.concat[0] : "*";
      const [protocol, port] = key.concat.slice(-2);
      return `${protocol} ${port} on ${on} to ${target.concat.join(":")}`;
    }),
  );
}
