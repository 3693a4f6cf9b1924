// SPDX-License-Identifier: Apache-2.0
//
// The part of the daemon's configuration that is about BGP (`routes.bgp`), as people write it and as it is used.
import * as v from "valibot";
import { AddressError, formatAddress, parseAddress } from "../net/address.ts";
import { indexOf, parsePrefix } from "../net/prefix.ts";

/** The default: the first of the AS numbers for private use (RFC 6996). */
const PRIVATE_ASN = 64_512;

/** Numbers that are no AS's: RFC 7607, RFC 6793 (AS_TRANS), RFC 7300. */
const RESERVED_ASNS = [0, 23_456, 65_535, 4_294_967_295];

/** What no neighbour can have: this host, loopback, link-local, multicast and reserved (RFC 6890; RFC 4291). */
const NO_NEIGHBOUR = [
  ...["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
  ...["::/127", "fe80::/10", "ff00::/8"],
].map(parsePrefix);

const Asn = v.pipe(
  v.number(),
  v.integer(),
  v.check((asn) => asn >= 0 && asn <= 4_294_967_295 && !RESERVED_ASNS.includes(asn), "is not the number of an AS"),
);

const Path = v.pipe(v.string(), v.startsWith("/", "is not an absolute path"));

const NeighbourAddress = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    const address = readAddress(dataset.value);
    if (address === undefined || NO_NEIGHBOUR.some((prefix) => indexOf(prefix, address) !== undefined)) {
      addIssue({ message: "is not the address of a neighbour" });
      return NEVER;
    }
    return address;
  }),
);

const RouterId = v.pipe(
  v.string(),
  v.check((text) => readAddress(text)?.length === 4 && text !== "0.0.0.0", "is not an IPv4 address"),
);

const PeerSchema = v.strictObject({
  address: NeighbourAddress,
  asn: Asn,
  passwordFile: v.optional(Path),
  bfd: v.optional(v.boolean()),
});

/** `routes.bgp`. Everything has a default, with which all nodes of the peers file are one full mesh. */
export const BgpSchema = v.strictObject({
  asn: v.optional(Asn, PRIVATE_ASN),
  routerId: v.optional(RouterId),
  bfd: v.optional(v.boolean(), false),
  passwordFile: v.optional(Path),
  reflectors: v.optional(v.array(v.pipe(v.string(), v.minLength(1, "is not a node name"))), []),
  peers: v.optional(
    v.pipe(
      v.array(PeerSchema),
      v.checkItems(
        ({ address }, i, peers) =>
          peers.findIndex((peer) => formatAddress(peer.address) === formatAddress(address)) === i,
        "is there twice",
      ),
    ),
    [],
  ),
  bird: v.optional(Path, "/usr/sbin/bird"),
});

export type BgpSettings = v.InferOutput<typeof BgpSchema>;
export type BgpPeer = BgpSettings["peers"][number];

/** The longest password (TCP_MD5SIG_MAXKEYLEN of include/uapi/linux/tcp.h), in bytes. */
const PASSWORD_MAX = 80;

/**
 * The password that a file holds: its one line.
 * @returns undefined when what is in it can't be one: empty, too long, or with characters that BIRD's strings can't have
 */
export function readPassword(text: string): string | undefined {
  const password = text.replace(/\r?\n$/, "");
  return password.length <= PASSWORD_MAX && /^[!#-~][ !#-~]*$/.test(password) ? password : undefined;
}

function readAddress(text: string): Uint8Array | undefined {
  try {
    return parseAddress(text);
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}
