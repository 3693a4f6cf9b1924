// SPDX-License-Identifier: Apache-2.0
//
// ADD's result against the version's shape, and against what iproute2 finds in the kernel.

import type { Added, RuleContext } from "../context.ts";
import { globalAddresses, type KernelRoute, readLink, readLinks, readRoutes, withLength } from "../kernel.ts";
import type { AddResult, ResultRoute } from "../result.ts";
import { canonical } from "../result.ts";
import { expectThat, type Rule, verdictOf } from "../rule.ts";
import { isAtLeast } from "../spec.ts";

const SECTION = "section 5, ADD Success";

/** Whether a value is in a document under that key, at any depth. */
function keysOf(value: unknown, path = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((one) => keysOf(one, `${path}[]`));
  if (typeof value !== "object" || value === null) return [path];
  return Object.entries(value).flatMap(([key, one]) => keysOf(one, path === "" ? key : `${path}.${key}`));
}

/** Keys that came with a version, so that a result of an earlier one can't have them. */
const LATER_KEYS = {
  "0.3.0": ["interfaces[].name", "ips[].address", "routes[].dst"],
  "1.1.0": [
    "interfaces[].mtu",
    "interfaces[].socketPath",
    "interfaces[].pciID",
    ...["mtu", "advmss", "priority", "table", "scope"].map((key) => `routes[].${key}`),
  ],
} as const;

/** Interfaces of the result that are in the container. */
function insideOnes(result: AddResult): AddResult["interfaces"] {
  return result.interfaces.filter(({ sandbox }) => sandbox !== "");
}

async function interfaceProblems(context: RuleContext, { pod, result }: Added): Promise<string[]> {
  const inPod = await readLinks(pod.netns);
  const onHost = await readLinks(context.host);
  return result.interfaces.flatMap(({ name, mac, mtu, sandbox }) => {
    const where = sandbox === "" ? "on the host" : "in the pod";
    const link = (sandbox === "" ? onHost : inPod).find(({ ifname }) => ifname === name);
    if (link === undefined) return [`${name} is not ${where}`];
    return [
      ...expectThat(
        mac === undefined || mac.toLowerCase() === link.address,
        `${name} ${where} has ${link.address}, not ${mac}`,
      ),
      ...expectThat(mtu === undefined || mtu === link.mtu, `${name} ${where} has MTU ${link.mtu}, not ${mtu}`),
    ];
  });
}

async function addressProblems({ pod, result }: Added): Promise<string[]> {
  const links = await readLinks(pod.netns);
  return result.addresses.flatMap(({ address, length, interface: index }) => {
    const target = index === undefined ? pod.ifname : result.interfaces[index]?.name;
    // An address of another domain, such as a host's, is not of the pod.
    if (index !== undefined && result.interfaces[index]?.sandbox === "") return [];
    const link = links.find(({ ifname }) => ifname === target);
    const found = link?.addr_info.some(({ local, prefixlen }) => canonical(local) === address && prefixlen === length);
    return expectThat(found === true, `${address}/${length} is not on ${target}`);
  });
}

/** Whether a route of the kernel is the one of the result. Without `gw` the gateway of an address may have been taken. */
function isRoute(wanted: ResultRoute, route: KernelRoute, gateways: readonly string[]): boolean {
  const anywhere = route.family === 4 ? "0.0.0.0/0" : "::/0";
  const single = route.dst.includes("/") ? route.dst : `${route.dst}/${route.family === 4 ? 32 : 128}`;
  const [address = "", length] = (route.dst === "default" ? anywhere : single).split("/");
  if (`${canonical(address)}/${length}` !== wanted.dst) return false;
  const gateway = route.gateway === undefined ? undefined : canonical(route.gateway);
  if (wanted.gw !== undefined) return gateway === wanted.gw;
  return gateway === undefined || gateways.includes(gateway);
}

async function routeProblems({ pod, result }: Added): Promise<string[]> {
  const routes = await readRoutes(pod.netns);
  const gateways = result.addresses.flatMap(({ gateway }) => gateway ?? []);
  return result.routes.flatMap((wanted) => {
    const found = routes.some((route) => isRoute(wanted, route, gateways));
    return expectThat(
      found,
      `there is no route to ${wanted.dst}${wanted.gw === undefined ? "" : ` via ${wanted.gw}`} in the pod`,
    );
  });
}

export const addResultRules: readonly Rule[] = [
  {
    id: "result.version",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: the same version supplied on input`,
    title: "The result's cniVersion is the request's",
    async run(context) {
      const { result } = await context.addNew();
      const got = result.document["cniVersion"];
      // 0.1.0 had no such key in its result.
      if (got === undefined && context.spec === "0.1.0") return verdictOf();
      return verdictOf(expectThat(got === context.spec, `cniVersion is ${JSON.stringify(got)}, not ${context.spec}`));
    },
  },
  {
    id: "result.shape",
    group: "ADD result",
    level: "MUST",
    section: SECTION,
    title: "What is in the result is of the types that the spec gives it",
    async run(context) {
      const { result } = await context.addNew();
      return verdictOf(result.problems, expectThat(result.addresses.length > 0, "there is no address in the result"));
    },
  },
  {
    id: "result.legacy",
    group: "ADD result",
    level: "MUST",
    section: "0.2.0, Result: ip4 and ip6",
    until: "0.2.0",
    title: "The result has ip4 and ip6, and none of what replaced them",
    async run(context) {
      const { document } = (await context.addNew()).result;
      const later = ["ips", "interfaces", "routes"].filter((key) => document[key] !== undefined);
      return verdictOf(
        expectThat(document["ip4"] !== undefined || document["ip6"] !== undefined, "there is neither ip4 nor ip6"),
        later.map((key) => `${key} is of a later version`),
      );
    },
  },
  {
    id: "result.ips-version",
    group: "ADD result",
    level: "MUST",
    section: "0.4.0, IPs: version",
    since: "0.3.0",
    until: "0.4.0",
    title: 'Each of ips has a version that is "4" or "6" as its address is',
    async run(context) {
      const { document, addresses } = (await context.addNew()).result;
      const ips = (Array.isArray(document["ips"]) ? document["ips"] : []) as { version?: unknown }[];
      return verdictOf(
        ips.flatMap(({ version }, index) => {
          const family = `${addresses[index]?.family}`;
          return expectThat(version === family, `ips[${index}].version is ${JSON.stringify(version)}, not "${family}"`);
        }),
      );
    },
  },
  {
    id: "result.no-ips-version",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}; changes of 1.0.0: ips[].version is gone`,
    since: "1.0.0",
    title: "None of ips has a version",
    async run(context) {
      const { document } = (await context.addNew()).result;
      return verdictOf(
        expectThat(!keysOf(document).includes("ips[].version"), "ips[].version is of an earlier version"),
      );
    },
  },
  {
    id: "result.no-later-keys",
    group: "ADD result",
    level: "SHOULD",
    section: `${SECTION}, of the version in use`,
    title: "The result has no keys of other versions",
    async run(context) {
      const keys = keysOf((await context.addNew()).result.document);
      const later = Object.entries(LATER_KEYS).flatMap(([version, names]) =>
        isAtLeast(context.spec, version as keyof typeof LATER_KEYS) ? [] : names,
      );
      const earlier = isAtLeast(context.spec, "0.3.0") ? ["ip4.ip", "ip6.ip"] : [];
      return verdictOf(
        [...later, ...earlier].filter((key) => keys.includes(key)).map((key) => `${key} is of another version`),
      );
    },
  },
  {
    id: "result.ipam",
    group: "ADD result",
    level: "MUST",
    section: "section 5, Delegated plugins (IPAM)",
    since: "0.3.0",
    kinds: ["ipam"],
    title: "An IPAM plugin's result has no interfaces, and its ips name none",
    async run(context) {
      const keys = keysOf((await context.addNew()).result.document);
      return verdictOf(
        expectThat(!keys.some((key) => key.startsWith("interfaces")), "there is interfaces in it"),
        expectThat(!keys.includes("ips[].interface"), "there is ips[].interface in it"),
      );
    },
  },
  {
    id: "result.index",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: ips[].interface is the index into interfaces`,
    since: "0.3.0",
    kinds: ["interface"],
    title: "Each of ips points at an interface in the container",
    async run(context) {
      const { result } = await context.addNew();
      return verdictOf(
        result.addresses.flatMap(({ interface: index }, at) => {
          if (index === undefined) return [`ips[${at}] has no interface`];
          const found = result.interfaces[index];
          if (found === undefined)
            return [`ips[${at}].interface is ${index}, and there are ${result.interfaces.length}`];
          return expectThat(
            found.sandbox !== "",
            `ips[${at}].interface is ${index}, which is ${found.name} on the host`,
          );
        }),
      );
    },
  },
  {
    id: "result.sandbox",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: sandbox is the value passed via CNI_NETNS`,
    since: "0.3.0",
    kinds: ["interface"],
    title: "The list of interfaces has CNI_IFNAME, with CNI_NETNS as its sandbox",
    async run(context) {
      const { pod, result } = await context.addNew();
      const names = insideOnes(result).map(({ name }) => name);
      return verdictOf(
        expectThat(names.includes(pod.ifname), `interfaces has no ${pod.ifname} with a sandbox`),
        insideOnes(result).flatMap(({ name, sandbox }) =>
          expectThat(sandbox === pod.netns.path, `the sandbox of ${name} is ${sandbox}, not ${pod.netns.path}`),
        ),
      );
    },
  },
  {
    id: "result.interfaces-real",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: interfaces created by the attachment`,
    since: "0.3.0",
    kinds: ["interface"],
    title: "Every interface of the result is where it says, with that MAC address and MTU",
    async run(context) {
      return verdictOf(await interfaceProblems(context, await context.addNew()));
    },
  },
  {
    id: "result.host-interfaces",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: including any host-level interfaces`,
    since: "0.3.0",
    kinds: ["interface"],
    title: "Every interface that came up on the host is in the result",
    async run(context) {
      const before = (await readLinks(context.host)).map(({ ifname }) => ifname);
      const { result } = await context.addNew();
      const named = result.interfaces.filter(({ sandbox }) => sandbox === "").map(({ name }) => name);
      const made = (await readLinks(context.host)).map(({ ifname }) => ifname).filter((name) => !before.includes(name));
      return verdictOf(
        made.flatMap((name) => expectThat(named.includes(name), `${name} is new on the host, but not in interfaces`)),
      );
    },
  },
  {
    id: "result.macs",
    group: "ADD result",
    level: "SHOULD",
    section: `${SECTION}: mac, if applicable`,
    since: "0.3.0",
    kinds: ["interface"],
    title: "Interfaces that have a MAC address have it in the result",
    async run(context) {
      const { pod, result } = await context.addNew();
      const link = await readLink(pod.netns, pod.ifname);
      const hasMac = link !== undefined && /^(?!00:00:00:00:00:00)[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(link.address);
      const told = insideOnes(result).find(({ name }) => name === pod.ifname)?.mac;
      return verdictOf(
        expectThat(!hasMac || told !== undefined, `${pod.ifname} has ${link?.address}, and no mac in the result`),
      );
    },
  },
  {
    id: "result.addresses-real",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: IPs assigned by this attachment`,
    kinds: ["interface"],
    title: "Every address of the result is on its interface, with that prefix length",
    async run(context) {
      return verdictOf(await addressProblems(await context.addNew()));
    },
  },
  {
    id: "result.addresses-complete",
    group: "ADD result",
    level: "SHOULD",
    section: `${SECTION}: IPs assigned by this attachment`,
    kinds: ["interface"],
    title: "Every address on the interface is in the result",
    async run(context) {
      const { pod, result } = await context.addNew();
      const told = result.addresses.map(({ address, length }) => `${address}/${length}`);
      const found = globalAddresses(await readLink(pod.netns, pod.ifname)).map(withLength);
      return verdictOf(
        found.flatMap((address) => expectThat(told.includes(address), `${address} is not in the result`)),
      );
    },
  },
  {
    id: "result.routes-real",
    group: "ADD result",
    level: "MUST",
    section: `${SECTION}: routes created by this attachment`,
    kinds: ["interface"],
    title: "Every route of the result is in the pod, by its gateway or that of an address",
    async run(context) {
      return verdictOf(await routeProblems(await context.addNew()));
    },
  },
];
