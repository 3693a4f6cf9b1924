// SPDX-License-Identifier: Apache-2.0
//
// Links, addresses, routes, rules, neighbours, nftables rules and files, before against after. "Before" is after one ADD
// and DEL that warmed the host up: what a network has once for all of its attachments (a bridge, a table) is no leak.

import { about, succeeds } from "../expect.ts";
import { readLink } from "../kernel.ts";
import { type Rule, verdictOf } from "../rule.ts";
import { addForeignLink, commandIn } from "../sandbox.ts";

const SECTION = "section 2, DEL: undo any modifications applied in ADD";

export const leakRules: readonly Rule[] = [
  {
    id: "leaks.add-del",
    group: "leaks",
    level: "MUST",
    section: SECTION,
    title: "ADD and DEL leave host, pod and files as before",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const problems = about("DEL", succeeds(await context.del(await context.add(pod))));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "leaks.no-prev-result",
    group: "leaks",
    level: "SHOULD",
    section: SECTION,
    title: "ADD and a DEL without prevResult leave host, pod and files as before",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      await context.add(pod);
      const problems = about("DEL", succeeds(await context.call("DEL", { pod })));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "leaks.vanished-netns",
    group: "leaks",
    level: "SHOULD",
    section: "section 2, DEL: to the fullest extent possible, even if some resources or state are missing",
    title: "A DEL after the pod's namespace is gone leaves host and files as before",
    async run(context) {
      const before = await context.look();
      const added = await context.addNew();
      await context.vanish(added.pod);
      const problems = about("DEL", succeeds(await context.del(added)));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "leaks.missing-interface",
    group: "leaks",
    level: "SHOULD",
    section: "section 2, DEL: to the fullest extent possible, even if some resources or state are missing",
    kinds: ["interface"],
    title: "A DEL after somebody has deleted the interface leaves host, pod and files as before",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const added = await context.add(pod);
      await commandIn(pod.netns, "ip", "link", "delete", pod.ifname);
      const problems = about("DEL", succeeds(await context.del(added)));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "leaks.moved-address",
    group: "leaks",
    level: "SHOULD",
    section: "section 2, DEL: to the fullest extent possible, even if some resources or state are missing",
    kinds: ["interface"],
    title: "A DEL after somebody has taken the interface's addresses leaves host, pod and files as before",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const added = await context.add(pod);
      await commandIn(pod.netns, "ip", "address", "flush", "dev", pod.ifname);
      const problems = about("DEL", succeeds(await context.del(added)));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "leaks.bystander",
    group: "leaks",
    level: "MUST",
    section: SECTION,
    kinds: ["interface"],
    title: "An interface, an address and a route that others made in the pod and on the host outlive ADD and DEL",
    async run(context) {
      const pod = await context.newPod();
      const name = `x${pod.containerId.slice(-12)}`;
      const places = [pod.netns, context.host];
      try {
        for (const place of places) {
          await addForeignLink(place, name, "192.0.2.7/24");
          await commandIn(place, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.1");
        }
        const before = await context.look(pod);
        const problems = about("DEL", succeeds(await context.del(await context.add(pod))));
        return verdictOf(problems, await context.changesSince(before));
      } finally {
        if ((await readLink(context.host, name)) !== undefined)
          await commandIn(context.host, "ip", "link", "delete", name);
      }
    },
  },
];
