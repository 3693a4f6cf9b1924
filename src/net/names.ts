// SPDX-License-Identifier: Apache-2.0
//
// Names and marks that tell flatnet's kernel objects from everybody else's. All of them follow from the attachment or its
// address, so that DEL, GC and a restarted daemon find them without any state.

/** What ADD makes and DEL removes: one interface of one container in one network (CNI spec, section 3). */
export interface Attachment {
  /** Name of the CNI network. */
  readonly network: string;
  /** CNI_CONTAINERID. */
  readonly containerId: string;
  /** CNI_IFNAME. */
  readonly ifname: string;
}

/** Longest network name and container ID, in characters, of plugin and daemon alike; runtimes use 64. */
export const IDENTIFIER_MAX = 253;

/** rtnetlink protocol number of every route flatnet makes (rtm_protocol; `70 flatnet` in iproute2's rt_protos.d). */
export const ROUTE_PROTOCOL = 70;

/**
 * IFLA_GROUP of every host end. Rules match the group and not the name, because `fl*` would match flannel.1 too.
 * 0x666c is "fl".
 */
export const LINK_GROUP = 0x666c;

/** The bits of IFLA_GROUP that are the mark. The others are zero but in host ends whose deletion has begun. */
export const LINK_GROUP_MASK = 0xffff;

/** Most for `doomedLinkGroup`. */
export const DOOM_MAX = 0x7fff;

/**
 * IFLA_GROUP of host ends that one request deletes, and that so share the grace period that the end of a veth costs. Such a
 * request takes all of a group, whosever they are; so the group is another one each time, which nobody else's link is in.
 * @param doom from 1 to DOOM_MAX, at random
 */
export function doomedLinkGroup(doom: number): number {
  return doom * (LINK_GROUP_MASK + 1) + LINK_GROUP;
}

/** Whether it is a host end's IFLA_GROUP, be its deletion begun or not. */
export function isLinkGroup(group: number): boolean {
  return (group & LINK_GROUP_MASK) === LINK_GROUP;
}

/** What the names of host ends begin with. */
export const LINK_PREFIX = "fl";

/** Name of flatnet's nftables table, family inet. */
export const NFT_TABLE = "flatnet";

/**
 * The attachment as one string. Network name and container ID match `[a-zA-Z0-9][a-zA-Z0-9_.-]*` and an interface name has
 * no slash (CNI spec, sections 1 and 2), so "/" cannot occur in a part and two attachments never share a key.
 */
export function attachmentKey(attachment: Attachment): string {
  return `${attachment.network}/${attachment.containerId}/${attachment.ifname}`;
}

/**
 * A network namespace as text: device and inode of its file on nsfs. No two that exist have the same; one that is made later
 * may have that of one that is gone.
 */
export function netnsIdentity({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}:${ino}`;
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * Name of the attachment's host end: "fl" and the first 55 bits of the key's SHA-256 in base 32, 13 of the 15 characters
 * that a link name may have (IFNAMSIZ - 1).
 */
export function hostLinkName(attachment: Attachment, sha256: (text: string) => Uint8Array): string {
  const hash = sha256(attachmentKey(attachment));
  let name = LINK_PREFIX;
  let bits = 0;
  let value = 0;
  for (let i = 0; name.length < 13; i++) {
    value = (value << 8) | (hash[i] as number);
    bits += 8;
    while (bits >= 5 && name.length < 13) {
      bits -= 5;
      name += BASE32[(value >> bits) & 31];
    }
    value &= (1 << bits) - 1;
  }
  return name;
}

/** Bits of the number of a routing table of our own: others use small numbers, and these can't meet them. */
const OWN_TABLE = 0x4000_0000;

/**
 * Number of the routing table, in the pod's namespace, of an interface that doesn't have the pod's default route: 30 bits
 * of its host end's name. DEL finds it again without any state.
 */
export function ownTable(hostLinkName: string): number {
  let bits = 0;
  for (const character of hostLinkName.slice(LINK_PREFIX.length, LINK_PREFIX.length + 6)) {
    bits = bits * 32 + BASE32.indexOf(character);
  }
  return OWN_TABLE + bits;
}

/** Priority of the rule that leads there: before the main table's, 32766. */
export const OWN_TABLE_PRIORITY = 0x666c;

/** Longest alias of a link in bytes (IFALIASZ - 1 of include/uapi/linux/if.h); the kernel refuses a longer one. */
const ALIAS_MAX = 255;

/**
 * `ifalias` of a host end, for people reading `ip link`: "flatnet:<namespace>/<pod>", or the container outside Kubernetes.
 * Cut to what a link can have: a namespace and a pod name of full length are longer.
 */
export function linkAlias(pod: { namespace: string; name: string } | undefined, containerId: string): string {
  const alias = pod === undefined ? `flatnet:${containerId}` : `flatnet:${pod.namespace}/${pod.name}`;
  let cut = alias;
  // A name of full length is cut at once; one with characters of several bytes needs a second step or more, at whole characters.
  for (let over = 1; over > 0; ) {
    over = new TextEncoder().encode(cut).length - ALIAS_MAX;
    if (over > 0) cut = [...cut].slice(0, -Math.ceil(over / 4)).join("");
  }
  return cut;
}
