// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type Bird, isAway } from "../bgp/bird.ts";
import { BgpError } from "../bgp/errors.ts";
import { renderBird } from "../bgp/render.ts";
import { planSessions, routerId, type Session } from "../bgp/sessions.ts";
import { readPassword } from "../bgp/settings.ts";
import { parseProtocols, parseRouteCount, type SessionState, SessionWatch } from "../bgp/state.ts";
import { BIRD_PROTOCOL, subnetsOf, Takeover } from "../bgp/takeover.ts";
import { birdWays } from "../bgp/ways.ts";
import type { NodeRoute } from "../gen/flatnet/ipam/v1/ipam.ts";
import { formatAddress } from "../net/address.ts";
import { ROUTE_PROTOCOL } from "../net/names.ts";
import type { Netlink } from "../netlink/event-loop.ts";
import { decodeLink, dumpLinks, type Link } from "../netlink/link.ts";
import { decodeRoute, dumpRoutes, type Route } from "../netlink/route.ts";
import { Admission, tellReasons } from "../routes/admission.ts";
import type { Knowledge, Node, NodeSource, Self } from "../routes/source.ts";
import type { Config } from "./config.ts";
import type { Log } from "./log.ts";

/** BIRD is started again at once, and then not before this long after the last start, doubled each time. */
const BACKOFF_MS = 10_000;
const BACKOFF_MOST_MS = 60_000;

export interface BgpKeeperOptions {
  readonly bird: Bird;
  readonly config: Pick<Config, "nodeName" | "podCIDRs" | "routes">;
  readonly source: NodeSource;
  readonly netlink: Netlink;
  readonly log: Log;
}

/**
 * Keeps BIRD as the nodes and the configuration say, pass by pass: running, with this configuration, and its sessions
 * looked at. What can't be done now is a complaint, and what BIRD did before goes on.
 *
 * To the keeper of static routes it is the source of nodes: the same nodes, with those subnets only that need a static route.
 */
export class BgpKeeper implements NodeSource {
  readonly #options: BgpKeeperOptions;
  readonly #self: Self;
  readonly #admission: Admission;
  readonly #watch = new SessionWatch();
  readonly #listeners = new Set<() => void>();
  /** Undefined until they are known. */
  #nodes: readonly Node[] | undefined;
  #takeover: Takeover<Node> | undefined;
  #mtu: number | undefined;
  /** The configuration that BIRD has been told. */
  #told: string | undefined;
  #states: readonly SessionState[] = [];
  #starts = 0;
  #startedAt = Number.NEGATIVE_INFINITY;
  #known = "";
  #complaints = "";
  #ready = false;

  constructor(options: BgpKeeperOptions) {
    this.#options = options;
    this.#self = { name: options.config.nodeName, podCIDRs: options.config.podCIDRs };
    this.#admission = new Admission(this.#self);
  }

  /** Whether BIRD has run with a configuration of ours. */
  get ready(): boolean {
    return this.#ready;
  }

  /** The sessions as BIRD had them at the last pass. */
  get sessions(): readonly SessionState[] {
    return this.#states;
  }

  /** The nodes there are, whole; none before they are known. */
  get nodes(): readonly Node[] {
    return this.#nodes ?? [];
  }

  /** MTU in bytes of the links that BIRD's routes lead out of, the smallest; undefined while there is no such route. */
  get mtu(): number | undefined {
    return this.#mtu;
  }

  /**
   * The ways to other nodes' pods that BIRD has, and those it doesn't have, as the kernel says now.
   * @param except subnets that have a static route
   */
  async ways(except: ReadonlySet<string>): Promise<NodeRoute[]> {
    const routes = await this.#listRoutes(BIRD_PROTOCOL);
    const links = await this.#listLinks();
    const names = new Map(links.map(({ index, name }) => [index, name]));
    return birdWays(this.nodes, this.#self.name, routes, except).map(({ node, subnet, route }) => ({
      node,
      subnet,
      nextHop: route?.gateway === undefined ? "" : formatAddress(route.gateway),
      state: route === undefined ? "failed" : "installed",
      link: names.get(route?.oif ?? 0) ?? "",
      reason: route === undefined ? "BIRD has no route to it" : "",
    }));
  }

  async read(): Promise<Knowledge> {
    const { nodes, restored = false, problem } = await this.#options.source.read();
    if (nodes === undefined) return { nodes, problem };
    this.#nodes = nodes;
    this.#takeover ??= new Takeover(this.#self.name, subnetsOf(await this.#listRoutes(ROUTE_PROTOCOL)));
    if (this.#takeover.isWaiting) this.#takeover.taken(subnetsOf(await this.#listRoutes(BIRD_PROTOCOL)));
    return { nodes: this.#takeover.narrow(nodes), restored, problem };
  }

  watch(onChange: () => void): { close(): void } {
    const watching = this.#options.source.watch(onChange);
    this.#listeners.add(onChange);
    return {
      close: () => {
        this.#listeners.delete(onChange);
        watching.close();
      },
    };
  }

  async pass(): Promise<void> {
    // Fewer nodes than there are would end sessions.
    if (this.#nodes === undefined) return;
    const complaints: string[] = [];
    try {
      const sessions = await this.#configure(this.#nodes, complaints);
      await this.#look(sessions);
    } catch (error) {
      if (!(error instanceof BgpError)) throw error;
      complaints.push(error.message);
    }
    this.#complain(complaints);
  }

  /** @returns the sessions that BIRD is to have */
  async #configure(all: readonly Node[], complaints: string[]): Promise<readonly Session[]> {
    const { bird, config } = this.#options;
    const { bgp: settings, table } = config.routes;
    const self = this.#self;
    const nodes = this.#admit(all, complaints);
    const { sessions, problems } = planSessions(settings, self, nodes);
    complaints.push(...problems);
    const text = renderBird({
      routerId: routerId(settings, self, nodes, (text) => createHash("sha256").update(text).digest()),
      asn: settings.asn,
      subnets: self.podCIDRs,
      sessions,
      passwords: await readPasswords(sessions),
      log: bird.paths.log,
      table,
    });
    if (text !== this.#told) {
      if (!(await bird.hasBeen())) await this.#refuseForeign();
      await bird.install(text);
    }
    try {
      if (text === this.#told) await bird.ask("show status");
      else await bird.reload();
    } catch (error) {
      if (!isAway(error)) throw error;
      await this.#start();
    }
    if (text !== this.#told) this.#options.log.info({ sessions: sessions.length }, "BIRD is configured");
    this.#told = text;
    this.#ready = true;
    return sessions;
  }

  /** The nodes with the subnets that they can have: nobody may announce what is claimed twice. */
  #admit(nodes: readonly Node[], complaints: string[]): readonly Node[] {
    const refusals = this.#admission.refuse(nodes);
    return nodes.map((node) => {
      const refused = refusals.get(node);
      if (refused === undefined) return node;
      complaints.push(...[...refused.values()].map(tellReasons));
      return { ...node, podCIDRs: node.podCIDRs.filter((prefix) => !refused.has(prefix)) };
    });
  }

  async #start(): Promise<void> {
    const { bird, log } = this.#options;
    const since = performance.now() - this.#startedAt;
    if (since > 2 * BACKOFF_MOST_MS) this.#starts = 0;
    const patience = this.#starts === 0 ? 0 : Math.min(BACKOFF_MS * 2 ** (this.#starts - 1), BACKOFF_MOST_MS);
    if (since < patience) throw new BgpError("BGP_BIRD_AWAY", "BIRD has ended again; it is started again in a while");
    this.#starts++;
    this.#startedAt = performance.now();
    const recover = (await this.#listRoutes(BIRD_PROTOCOL)).length > 0;
    await bird.start(recover);
    log.info({ recover }, "BIRD is started");
  }

  async #look(sessions: readonly Session[]): Promise<void> {
    const { bird, log } = this.#options;
    const [protocols, count] = await bird.ask("show protocols", "show route count");
    if (protocols === undefined || count === undefined) return;
    this.#states = parseProtocols(protocols);
    for (const { level, text } of this.#watch.look(sessions, this.#states)) log[level](text);
    const known = parseRouteCount(count);
    if (known === this.#known) return;
    await this.#updateMtu();
    for (const onChange of this.#listeners) onChange();
    this.#known = known;
  }

  async #updateMtu(): Promise<void> {
    const out = new Set((await this.#listRoutes(BIRD_PROTOCOL)).map(({ oif }) => oif));
    const links = await this.#listLinks();
    const mtus = links.filter(({ index }) => out.has(index)).map(({ mtu }) => mtu);
    this.#mtu = mtus.length === 0 ? undefined : Math.min(...mtus);
  }

  async #listLinks(): Promise<Link[]> {
    return (await this.#options.netlink.dump(dumpLinks())).flatMap((message) => decodeLink(message) ?? []);
  }

  /** Two BIRDs in one namespace would take each other's routes away. */
  async #refuseForeign(): Promise<void> {
    const [route] = await this.#listRoutes(BIRD_PROTOCOL);
    if (route === undefined) return;
    const text = "another BIRD has routes in this node's kernel; two of them would remove each other's";
    throw new BgpError("BGP_FOREIGN_BIRD", text);
  }

  /** The routes with the protocol number in the table of routes to peers. */
  async #listRoutes(protocol: number): Promise<Route[]> {
    const { netlink, config } = this.#options;
    const routes: Route[] = [];
    for (const family of [4, 6] as const) {
      for (const message of await netlink.dump(dumpRoutes(family, protocol))) {
        const route = decodeRoute(message);
        // The kernel filters only for sockets that ask it to be strict, which this one can't.
        if (route?.protocol === protocol && route.table === config.routes.table) routes.push(route);
      }
    }
    return routes;
  }

  #complain(complaints: readonly string[]): void {
    const text = complaints.join("\n");
    if (text === this.#complaints) return;
    this.#complaints = text;
    if (text === "") this.#options.log.info("BGP is in order again");
    else this.#options.log.error({ problems: complaints }, "BGP is not in order");
  }
}

/** @throws BgpError BGP_PASSWORD naming the file, never what is in it */
async function readPasswords(sessions: readonly Session[]): Promise<Map<string, string>> {
  const passwords = new Map<string, string>();
  for (const { passwordFile: path } of sessions) {
    if (path === undefined || passwords.has(path)) continue;
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (cause) {
      throw new BgpError("BGP_PASSWORD", `a BGP password can't be read: ${(cause as Error).message}`, cause);
    }
    const password = readPassword(text);
    if (password === undefined) {
      throw new BgpError(
        "BGP_PASSWORD",
        `${path} has no BGP password: one line of 1 to 80 ASCII characters without quotation marks`,
      );
    }
    passwords.set(path, password);
  }
  return passwords;
}
