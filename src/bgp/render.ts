// SPDX-License-Identifier: Apache-2.0
//
// BIRD's configuration (the language of BIRD 2), from what a node should say and hear. Pure. Nothing in it comes from
// outside as it is: addresses and subnets are written anew from their bytes, numbers are numbers, and what is text has been
// checked (readPassword) or is a path of our own.
import { formatAddress } from "../net/address.ts";
import { ROUTE_PROTOCOL } from "../net/names.ts";
import { formatPrefix, type Prefix } from "../net/prefix.ts";
import type { Session } from "./sessions.ts";

/** BIRD's routes in the kernel have this metric, which none of flatnet's own has (src/routes/desired.ts): both can be there. */
export const BIRD_METRIC = 32;

/** How long peers keep the routes of a node whose BIRD is away, in seconds: as long as a daemon's image takes to come. */
const RESTART_SECONDS = 300;
/** How long a restarted BIRD waits for a peer that doesn't come, before it removes what only that one announced. */
const RECOVERY_SECONDS = 15;
/** Between BIRD's looks whether somebody took its routes away, in seconds. */
const SCAN_SECONDS = 1;
/** BFD tells a neighbour that is gone after three of these, in milliseconds. */
const BFD_INTERVAL_MS = 300;
/** BIRD's log is begun anew at this size, in bytes; one old one is kept. */
const LOG_BYTES = 1 << 20;

export interface BirdInput {
  /** In the form of an IPv4 address. */
  readonly routerId: string;
  readonly asn: number;
  /** This node's own, announced to everybody. */
  readonly subnets: readonly Prefix[];
  readonly sessions: readonly Session[];
  /** What the files that sessions name hold, as `readPassword` gave it. */
  readonly passwords: ReadonlyMap<string, string>;
  /** The kernel's table for routes to peers. */
  readonly table: number;
  /** Path of BIRD's own log; no quotation marks. */
  readonly log: string;
}

/** The configuration of a node's BIRD. */
export function renderBird(input: BirdInput): string {
  const { routerId, sessions } = input;
  const learns = sessions.some((session) => isReflected(session, input.asn));
  const ofFamily = (family: 4 | 6) => input.subnets.filter((prefix) => prefix.family === family).map(formatPrefix);
  return [
    "# Written by flatnetd, and written again whenever it likes: changes are lost.",
    `router id ${routerId};`,
    `log "${input.log}" ${LOG_BYTES} "${input.log}.old" { info, remote, warning, error, auth, fatal, bug };`,
    `graceful restart wait ${RECOVERY_SECONDS};`,
    "",
    "protocol device { scan time 10; }",
    // What is on a link stays there, whatever a router announces.
    "protocol direct { ipv4; ipv6; }",
    ...([4, 6] as const).flatMap((family) => [
      `protocol static own${family} {`,
      `  ipv${family};`,
      ...ofFamily(family).map((subnet) => `  route ${subnet} unreachable;`),
      "}",
      `protocol kernel kernel${family} {`,
      PERSIST,
      "  graceful restart;",
      `  kernel table ${input.table};`,
      `  metric ${BIRD_METRIC};`,
      `  scan time ${SCAN_SECONDS};`,
      // The own subnets are in the kernel already, and not BIRD's.
      ...(learns ? ["  learn;"] : []),
      `  ipv${family} { import ${learns ? FOREIGN : "none"}; export where source = RTS_BGP; };`,
      "}",
    ]),
    ...(learns ? INTERIOR : []),
    ...(sessions.some(({ bfd }) => bfd) ? BFD : []),
    ...SESSION,
    ...sessions.flatMap((session) => renderSession(session, input)),
    "",
  ].join("\n");
}

const PERSIST = "  persist;";

/** A configuration of `renderBird` with which BIRD takes its routes out of the kernel when it is told to let go of it. */
export function renderRelease(config: string): string {
  return config.replaceAll(`${PERSIST}\n`, "");
}

/** The configuration of a BIRD that is started only to take away what one that died has left in the kernel. */
export function renderRemoval(table: number): string {
  return [
    "# Written by flatnetd: BIRD takes its routes away and ends.",
    "router id 0.0.0.1;",
    "protocol device { }",
    ...[4, 6].map(
      (family) =>
        `protocol kernel kernel${family} { kernel table ${table}; metric ${BIRD_METRIC}; ipv${family} { import none; export none; }; }`,
    ),
    "",
  ].join("\n");
}

/** Of the kernel's routes those that aren't flatnet's, which lead to pods. */
const FOREIGN = `where krt_source != ${ROUTE_PROTOCOL}`;

/** How a next hop on another link is found: by links and by the kernel's routes, in tables that BGP's own are not in. */
const INTERIOR = [4, 6].flatMap((family) => [
  `ipv${family} table interior${family};`,
  `protocol pipe { table master${family}; peer table interior${family}; import none; export where source != RTS_BGP; }`,
]);

/**
 * A reflector outside of the cluster passes on next hops as they are (RFC 4456), those on other links included. All other
 * neighbours name next hops on the link that is shared with them.
 */
function isReflected({ accept, asn }: Session, own: number): boolean {
  return accept === "any" && asn === own;
}

const BFD = [
  "protocol bfd {",
  `  interface "*" { min rx interval ${BFD_INTERVAL_MS} ms; min tx interval ${BFD_INTERVAL_MS} ms; multiplier 3; };`,
  "}",
];

/** BIRD's own patience with a neighbour that isn't there yet is minutes: pods wait. */
const SESSION = [
  "template bgp session {",
  "  direct;",
  "  graceful restart on;",
  `  graceful restart time ${RESTART_SECONDS};`,
  "  hold time 90;",
  "  keepalive time 30;",
  "  connect delay time 1;",
  "  connect retry time 5;",
  "  error wait time 1, 30;",
  "  error forget time 30;",
  "}",
];

function renderSession(session: Session, { asn, subnets, passwords }: BirdInput): string[] {
  const { family } = session;
  const password = session.passwordFile === undefined ? undefined : passwords.get(session.passwordFile);
  const local = session.local === undefined ? "" : `${formatAddress(session.local)} `;
  const announced = `proto = "own${family}"`;
  return [
    `protocol bgp ${session.id} from session {`,
    `  local ${local}as ${asn};`,
    `  neighbor ${formatAddress(session.address)} as ${session.asn};`,
    ...(session.asn === asn
      ? []
      : ["  # All nodes are one AS, which a router between them has on every path.", "  allow local as 1;"]),
    ...(session.client ? ["  rr client;"] : []),
    `  bfd ${session.bfd ? "on" : "off"};`,
    ...(password === undefined ? [] : [`  password "${password}";`]),
    `  ipv${family} {`,
    `    import ${importFilter(session, subnets)};`,
    `    export where ${session.client ? `${announced} || source = RTS_BGP` : announced};`,
    // A link-local next hop is one of the reflector's link, not of the client's.
    ...(family === 6 ? ["    next hop prefer global;"] : []),
    ...(isReflected(session, asn) ? ["    gateway recursive;", `    igp table interior${family};`] : []),
    "  };",
    "}",
  ];
}

function importFilter({ accept, family }: Session, own: readonly Prefix[]): string {
  if (accept !== "any") return accept.length === 0 ? "none" : `where net ~ ${prefixSet(accept.map(formatPrefix))}`;
  const refused = [
    family === 4 ? "0.0.0.0/0" : "::/0",
    // And whatever is inside of them.
    ...own.filter((prefix) => prefix.family === family).map((prefix) => `${formatPrefix(prefix)}+`),
  ];
  return `where net !~ ${prefixSet(refused)}`;
}

function prefixSet(prefixes: readonly string[]): string {
  return `[ ${prefixes.join(", ")} ]`;
}
