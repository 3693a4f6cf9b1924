// SPDX-License-Identifier: Apache-2.0

import type { Added, RuleContext } from "../context.ts";
import { about, printsNothing, refuses, succeeds } from "../expect.ts";
import { readLink } from "../kernel.ts";
import { expectThat, mustSince, NotSupported, type Rule, verdictOf } from "../rule.ts";
import { commandIn } from "../sandbox.ts";
import { isAtLeast } from "../spec.ts";

const BEST_EFFORT = "section 2, DEL: complete without error even if some resources or state are missing";

async function goneFrom({ pod }: Added): Promise<string[]> {
  return expectThat((await readLink(pod.netns, pod.ifname)) === undefined, `${pod.ifname} is still in the pod`);
}

/** DEL of an attachment that is up, with something left out. */
async function delWithout(context: RuleContext, env: Record<string, string | undefined>) {
  const added = await context.addNew();
  return verdictOf(succeeds(await context.call("DEL", { pod: added.pod, env })));
}

/** The attachment is as it was before `work`: in its namespace, or, as an IPAM plugin does nothing there, to CHECK. */
async function unharmed(context: RuleContext, stays: Added, work: () => Promise<string[]>): Promise<string[]> {
  if (context.settings.kind === "ipam") {
    if (!isAtLeast(context.spec, "0.4.0")) throw new NotSupported("only CHECK, of 0.4.0, tells of an IPAM plugin");
    return [...(await work()), ...about("CHECK of the other one", succeeds(await context.check(stays)))];
  }
  const before = (await context.look(stays.pod)).pods;
  const problems = await work();
  return [...problems, ...(await context.changesSince({ ...(await context.look()), pods: before }))];
}

export const delRules: readonly Rule[] = [
  {
    id: "del.success",
    group: "DEL",
    level: "MUST",
    section: "section 2, DEL: delete the interface defined by CNI_IFNAME",
    title: "DEL after ADD succeeds, and the interface is gone from the pod",
    async run(context) {
      const added = await context.addNew();
      return verdictOf(succeeds(await context.del(added)), await goneFrom(added));
    },
  },
  {
    id: "del.silent",
    group: "DEL",
    level: "SHOULD",
    section: "section 5 has no result type for DEL",
    title: "DEL prints nothing on stdout",
    async run(context) {
      const added = await context.addNew();
      return verdictOf(
        printsNothing(await context.del(added)),
        about("again", printsNothing(await context.del(added))),
      );
    },
  },
  {
    id: "del.repeated",
    group: "DEL",
    level: "MUST",
    section: "section 2, DEL: plugins MUST accept multiple DEL calls",
    title: "DEL succeeds again and again",
    async run(context) {
      const added = await context.addNew();
      const problems = about("the first DEL", succeeds(await context.del(added)));
      for (const which of ["second", "third"])
        problems.push(...about(`the ${which} DEL`, succeeds(await context.del(added))));
      return verdictOf(problems);
    },
  },
  {
    id: "del.no-prev-result",
    group: "DEL",
    level: mustSince("0.4.0"),
    section: "section 2, DEL: without error if prevResult is empty",
    title: "DEL without prevResult succeeds, and the interface is gone from the pod",
    async run(context) {
      const added = await context.addNew();
      return verdictOf(succeeds(await context.call("DEL", { pod: added.pod })), await goneFrom(added));
    },
  },
  {
    id: "del.odd-prev-result",
    group: "DEL",
    level: "SHOULD",
    section: BEST_EFFORT,
    since: "0.4.0",
    title: "DEL succeeds with a prevResult that has nothing in it, or is null",
    async run(context) {
      const problems: string[] = [];
      for (const prevResult of [null, { cniVersion: context.spec }]) {
        const added = await context.addNew();
        const call = await context.call("DEL", { pod: added.pod, conf: { prevResult } });
        const what = `with prevResult ${JSON.stringify(prevResult)}`;
        problems.push(...about(what, [...succeeds(call), ...(await goneFrom(added))]));
      }
      return verdictOf(problems);
    },
  },
  {
    id: "del.empty-netns",
    group: "DEL",
    level: mustSince("0.4.0"),
    section: "section 2, DEL: CNI_NETNS is optional",
    title: "DEL with an empty CNI_NETNS succeeds",
    run: (context) => delWithout(context, { CNI_NETNS: "" }),
  },
  {
    id: "del.no-netns",
    group: "DEL",
    level: mustSince("0.4.0"),
    section: "section 2, DEL: CNI_NETNS is optional",
    title: "DEL without CNI_NETNS succeeds",
    run: (context) => delWithout(context, { CNI_NETNS: undefined }),
  },
  {
    id: "del.vanished-netns",
    group: "DEL",
    level: "MUST",
    section: "section 2, DEL: return success if the interface in question is missing",
    title: "DEL succeeds when the pod's namespace is gone, and again",
    async run(context) {
      const added = await context.addNew();
      await context.vanish(added.pod);
      const first = succeeds(await context.del(added));
      return verdictOf(first, about("again", succeeds(await context.del(added))));
    },
  },
  {
    id: "del.not-a-netns",
    group: "DEL",
    level: "SHOULD",
    section: BEST_EFFORT,
    title: "DEL succeeds when a file that is no namespace is left in its place",
    async run(context) {
      const added = await context.addNew();
      await context.vanish(added.pod);
      return verdictOf(succeeds(await context.del(added, { env: { CNI_NETNS: context.settings.plugin } })));
    },
  },
  {
    id: "del.missing-interface",
    group: "DEL",
    level: "MUST",
    section: "section 2, DEL: return success if the interface in question is missing",
    kinds: ["interface"],
    title: "DEL succeeds when somebody has deleted the interface",
    async run(context) {
      const added = await context.addNew();
      await commandIn(added.pod.netns, "ip", "link", "delete", added.pod.ifname);
      return verdictOf(succeeds(await context.del(added)));
    },
  },
  {
    id: "del.unknown",
    group: "DEL",
    level: "MUST",
    section: "section 2, DEL: return success if the interface in question is missing",
    title: "DEL of a container that was never added succeeds, and changes nothing",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      return verdictOf(succeeds(await context.call("DEL", { pod })), await context.changesSince(before));
    },
  },
  {
    id: "del.after-failed-add",
    group: "DEL",
    level: "MUST",
    section: "section 3, Lifecycle & Ordering: a delete must still be executed even if the add fails",
    title: "DEL after an ADD that failed for its namespace succeeds",
    async run(context) {
      const pod = await context.newPod();
      const nowhere = `${context.sandbox.directory}/nowhere`;
      const add = await context.call("ADD", { pod, env: { CNI_NETNS: nowhere } });
      const env = { CNI_NETNS: nowhere };
      // An IPAM plugin has no use for the namespace and may give an address all the same.
      const refused = context.settings.kind === "ipam" ? [] : about("ADD", refuses(add));
      return verdictOf(refused, about("DEL", succeeds(await context.call("DEL", { pod, env }))));
    },
  },
  {
    id: "del.only-its-own",
    group: "DEL",
    level: "MUST",
    section: "section 3: an attachment is identified by (CNI_CONTAINERID, CNI_IFNAME)",
    title: "DEL of one container leaves another one as it was",
    async run(context) {
      const stays = await context.addNew();
      const goes = await context.addNew();
      return verdictOf(await unharmed(context, stays, async () => succeeds(await context.del(goes))));
    },
  },
  {
    id: "del.prefix-of-id",
    group: "DEL",
    level: "MUST",
    section: "section 3: an attachment is identified by (CNI_CONTAINERID, CNI_IFNAME)",
    title: "DEL of a container whose ID is the beginning of another one's leaves that one as it was",
    async run(context) {
      const stays = await context.addNew();
      const other = await context.newPod();
      const short = { ...other, containerId: stays.pod.containerId.slice(0, -1) };
      const before = await context.look();
      const problems = await unharmed(context, stays, async () => succeeds(await context.call("DEL", { pod: short })));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
];
