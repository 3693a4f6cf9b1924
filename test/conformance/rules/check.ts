// SPDX-License-Identifier: Apache-2.0

import { type Added, documentOf, type RuleContext } from "../context.ts";
import { about, printsNothing, refuses, succeeds, tellsError } from "../expect.ts";
import { globalAddresses, readLink, readRoutes, withLength } from "../kernel.ts";
import { expectThat, mustSince, NotSupported, type Rule, RuleStop, type Verdict, verdictOf } from "../rule.ts";
import { addForeignLink, commandIn } from "../sandbox.ts";

const SHOULD_FAIL = "section 2, CHECK: an error if a resource in prevResult is missing or in an invalid state";

/** An attachment that CHECK finds well: where it finds nothing well, a failure shows nothing. */
async function addChecked(context: RuleContext): Promise<Added> {
  const added = await context.addNew();
  if ((await context.check(added)).status !== 0)
    throw new RuleStop("CHECK right after ADD, on which this rule builds, fails");
  return added;
}

/** CHECK is well before `damage` and fails after it. */
async function failsAfter(context: RuleContext, damage: (added: Added) => Promise<unknown>): Promise<Verdict> {
  const added = await addChecked(context);
  await damage(added);
  const call = await context.check(added);
  return verdictOf(refuses(call), call.status === 0 ? [] : tellsError(call, []));
}

/** Runs iproute2 in a pod. */
function ip({ pod }: Added, ...args: string[]): Promise<string> {
  return commandIn(pod.netns, "ip", ...args);
}

export const checkRules: readonly Rule[] = [
  {
    id: "check.after-add",
    group: "CHECK",
    level: "MUST",
    section: "section 2, CHECK: must handle CHECK being called immediately after an ADD",
    since: "0.4.0",
    title: "CHECK succeeds right after ADD, and again",
    async run(context) {
      const added = await context.addNew();
      const first = succeeds(await context.check(added));
      return verdictOf(first, about("again", succeeds(await context.check(added))));
    },
  },
  {
    id: "check.silent",
    group: "CHECK",
    level: "MUST",
    section: "0.4.0, CHECK: the plugin must return either nothing or an error",
    since: "0.4.0",
    title: "CHECK that is well prints nothing on stdout",
    async run(context) {
      return verdictOf(printsNothing(await context.check(await context.addNew())));
    },
  },
  {
    id: "check.nothing-done",
    group: "CHECK",
    level: "MUST",
    section: "section 2, CHECK: a way to probe the status of an existing container",
    since: "0.4.0",
    title: "CHECK changes nothing, neither when all is well nor when it isn't",
    async run(context) {
      const added = await context.addNew();
      const before = await context.look(added.pod);
      await context.check(added);
      const well = await context.changesSince(before);
      const routes = await ip(added, "-j", "route");
      if (context.settings.kind === "interface" && routes.trim() !== "[]")
        await ip(added, "route", "flush", "table", "main");
      const broken = await context.look(added.pod);
      await context.check(added);
      return verdictOf(well, about("with the routes gone", await context.changesSince(broken)));
    },
  },
  {
    id: "check.link",
    group: "CHECK",
    level: "SHOULD",
    section: SHOULD_FAIL,
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when the interface is gone",
    run: (context) => failsAfter(context, (added) => ip(added, "link", "delete", added.pod.ifname)),
  },
  {
    id: "check.link-down",
    group: "CHECK",
    level: "SHOULD",
    section: `${SHOULD_FAIL}; or if the container is generally unreachable`,
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when the interface is down",
    run: (context) => failsAfter(context, (added) => ip(added, "link", "set", added.pod.ifname, "down")),
  },
  {
    id: "check.address",
    group: "CHECK",
    level: "SHOULD",
    section: SHOULD_FAIL,
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when an address is gone",
    run: (context) =>
      failsAfter(context, async (added) => {
        const [address] = globalAddresses(await readLink(added.pod.netns, added.pod.ifname));
        if (address === undefined) throw new NotSupported("there is no address on the interface");
        // Its routes go with the address: put back, so that nothing else is missing.
        await ip(added, "address", "replace", withLength(address), "dev", "lo");
        await ip(added, "address", "delete", withLength(address), "dev", added.pod.ifname);
      }),
  },
  {
    id: "check.route",
    group: "CHECK",
    level: "SHOULD",
    section: SHOULD_FAIL,
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when a route of the result is gone",
    run: (context) =>
      failsAfter(context, async (added) => {
        const [route] = added.result.routes;
        if (route === undefined) throw new NotSupported("there is no route in the result");
        const all = await readRoutes(added.pod.netns);
        const family = route.dst.includes(":") ? "-6" : "-4";
        const dst = /^(0\.0\.0\.0|::)\/0$/.test(route.dst) ? "default" : route.dst;
        if (all.length === 0) throw new NotSupported("there is no route in the pod");
        await ip(added, family, "route", "delete", dst);
      }),
  },
  {
    id: "check.prev-result",
    group: "CHECK",
    level: "SHOULD",
    section: "section 2, CHECK: must consult the prevResult to determine the expected interfaces and addresses",
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when prevResult has an address of the interface that is not there",
    async run(context) {
      const added = await addChecked(context);
      const { document } = added.result;
      const ips = (document["ips"] as Record<string, unknown>[]).map((one) => ({
        ...one,
        address: String(one["address"]).includes(":") ? "2001:db8::7/64" : "192.0.2.7/24",
      }));
      return verdictOf(refuses(await context.check(added, { conf: { prevResult: { ...document, ips } } })));
    },
  },
  {
    id: "check.later-changes",
    group: "CHECK",
    level: "MUST",
    section: "section 2, CHECK: must allow for a later chained plugin to have modified networking resources",
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK succeeds when others have added an interface, an address, a route and a rule in the pod",
    async run(context) {
      const added = await context.addNew();
      await addForeignLink(added.pod.netns, "later0", "192.0.2.7/24");
      await ip(added, "route", "add", "198.51.100.0/24", "dev", "later0");
      await ip(added, "route", "add", "default", "dev", "later0", "table", "100");
      await ip(added, "rule", "add", "from", "192.0.2.7", "table", "100");
      return verdictOf(succeeds(await context.check(added)));
    },
  },
  {
    id: "check.needs-prev-result",
    group: "CHECK",
    level: "SHOULD",
    section: "section 2, CHECK: must consult the prevResult; convention: the reference plugins require it",
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK without prevResult fails",
    async run(context) {
      const { pod } = await addChecked(context);
      return verdictOf(refuses(await context.call("CHECK", { pod })));
    },
  },
  {
    id: "check.needs-prev-result.code",
    group: "CHECK",
    level: "SHOULD",
    section: "section 5, Error: 7, invalid network config",
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK without prevResult says so with code 7",
    async run(context) {
      const { pod } = await context.addNew();
      return verdictOf(tellsError(await context.call("CHECK", { pod }), [7], ["prevResult"]));
    },
  },
  {
    id: "check.after-del",
    group: "CHECK",
    level: "SHOULD",
    section: SHOULD_FAIL,
    since: "0.4.0",
    title: "CHECK of an attachment that was deleted fails",
    run: (context) => failsAfter(context, (added) => context.del(added)),
  },
  {
    id: "check.vanished-netns",
    group: "CHECK",
    level: "SHOULD",
    section: SHOULD_FAIL,
    since: "0.4.0",
    kinds: ["interface"],
    title: "CHECK fails when the pod's namespace is gone",
    run: (context) => failsAfter(context, ({ pod }) => context.vanish(pod)),
  },
  {
    id: "check.too-old",
    group: "CHECK",
    level: mustSince("0.4.0"),
    section: "CHECK came with 0.4.0; convention: skel answers 1, config version does not allow CHECK",
    until: "0.3.1",
    title: "CHECK with a configuration before 0.4.0 fails with code 1",
    async run(context) {
      context.requireVersion("0.4.0", "CHECK");
      const added = await context.addNew();
      const call = await context.check(added);
      const code = documentOf(call)?.["code"];
      return verdictOf(refuses(call), expectThat(code === 1, `code is ${JSON.stringify(code)}, not 1`));
    },
  },
];
