// SPDX-License-Identifier: Apache-2.0

import { documentOf } from "../context.ts";
import { about, refuses, succeeds } from "../expect.ts";
import { globalAddresses, readLink, withLength } from "../kernel.ts";
import { fill, forEach, poolOf, sharedAddresses } from "../pool.ts";
import { readResult } from "../result.ts";
import { expectThat, type Rule, verdictOf } from "../rule.ts";
import { addForeignLink, commandIn } from "../sandbox.ts";

export const idempotencyRules: readonly Rule[] = [
  {
    id: "idempotency.add-twice",
    group: "idempotency",
    level: "MUST",
    section: "section 2, ADD: a runtime should not call ADD twice; an interface that exists is an error",
    title: "A second ADD of an attachment is an error or gives the same address, and one DEL takes away all",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const first = await context.add(pod);
      const told = (result: typeof first.result) => result.addresses.map(({ address }) => address).join(", ");
      const again = await context.call("ADD", { pod });
      const second = again.status === 0 ? readResult(documentOf(again) ?? {}, context.spec) : undefined;
      const link = context.settings.kind === "interface" ? await readLink(pod.netns, pod.ifname) : undefined;
      const held = globalAddresses(link).map(withLength);
      const problems = [
        ...(second === undefined ? refuses(again) : []),
        ...expectThat(
          second === undefined || told(second) === told(first.result),
          `the second ADD gave ${second && told(second)}, and the first ${told(first.result)}`,
        ),
        ...expectThat(held.length <= first.result.addresses.length, `${pod.ifname} has ${held.join(", ")}`),
      ];
      problems.push(...about("DEL", succeeds(await context.del(first))));
      return verdictOf(problems, about("after one DEL", await context.changesSince(before)));
    },
  },
  {
    id: "idempotency.add-twice-keeps",
    group: "idempotency",
    level: "SHOULD",
    section: "section 2, ADD: an error does not concern what is there",
    kinds: ["interface"],
    title: "A second ADD, whether it fails or not, leaves the first one's pod as it was",
    async run(context) {
      const { pod } = await context.addNew();
      const before = (await context.look(pod)).pods;
      await context.call("ADD", { pod });
      return verdictOf(await context.changesSince({ ...(await context.look()), pods: before }));
    },
  },
  {
    id: "idempotency.add-del-add",
    group: "idempotency",
    level: "MUST",
    section: "section 2, ADD: not twice without an intervening DEL",
    title: "ADD and DEL of the same attachment go on and on, and leave everything as before",
    async run(context) {
      const pod = await context.newPod();
      const before = await context.look(pod);
      const problems: string[] = [];
      for (let round = 1; round <= 5; round++) {
        const added = await context.add(pod);
        problems.push(...about(`DEL ${round}`, succeeds(await context.del(added))));
      }
      return verdictOf(problems, await context.changesSince(before));
    },
  },
  {
    id: "idempotency.add-after-failure",
    group: "idempotency",
    level: "MUST",
    section: "section 3, Lifecycle & Ordering",
    kinds: ["interface"],
    title: "ADD works once what made it fail is gone",
    async run(context) {
      const pod = await context.newPod();
      await addForeignLink(pod.netns, pod.ifname);
      const failed = await context.call("ADD", { pod });
      const del = await context.call("DEL", { pod });
      if ((await readLink(pod.netns, pod.ifname)) !== undefined) {
        await commandIn(pod.netns, "ip", "link", "delete", pod.ifname);
      }
      const problems = [...about("ADD", refuses(failed)), ...about("DEL", succeeds(del))];
      return verdictOf(problems, about("ADD again", succeeds(await context.call("ADD", { pod }))));
    },
  },
  {
    id: "pool.full",
    group: "idempotency",
    level: "MUST",
    section: "section 2, Errors; section 3: IPAM databases",
    needs: ["pool"],
    title: "Every address is given once; ADD fails when there is none left, and its DEL takes away what it left",
    async run(context) {
      const pool = poolOf(context);
      const { added, failed } = await fill(context, pool);
      const pod = await context.newPod();
      const before = await context.look(pod);
      const call = await context.call("ADD", { pod, conf: pool.conf });
      const del = await context.call("DEL", { pod, conf: pool.conf });
      return verdictOf(
        expectThat(failed === undefined, `only ${added.length} of ${pool.size} addresses were given`),
        sharedAddresses(added),
        about("ADD without an address left", refuses(call)),
        about("DEL", succeeds(del)),
        await context.changesSince(before),
      );
    },
  },
  {
    id: "pool.full-leaves-nothing",
    group: "idempotency",
    level: "SHOULD",
    section: "section 3, Lifecycle & Ordering: the DEL after a failed ADD may never come",
    needs: ["pool"],
    title: "ADD that fails for want of an address leaves nothing, even before its DEL",
    async run(context) {
      const pool = poolOf(context);
      await fill(context, pool);
      const pod = await context.newPod();
      const before = await context.look(pod);
      const call = await context.call("ADD", { pod, conf: pool.conf });
      return verdictOf(refuses(call), await context.changesSince(before));
    },
  },
  {
    id: "pool.del-frees",
    group: "idempotency",
    level: "MUST",
    section: "section 2, DEL: undo any modifications applied in ADD",
    needs: ["pool"],
    title: "DEL frees the address: a network that was full can be filled again",
    async run(context) {
      const pool = poolOf(context);
      const { added } = await fill(context, pool);
      const dels = await forEach(added, (one) => context.del(one, { conf: pool.conf }));
      const again = await fill(context, pool);
      return verdictOf(
        dels.flatMap(succeeds),
        again.failed === undefined ? [] : [onlySome(again.added.length, pool.size)],
      );
    },
  },
  {
    id: "pool.vanished-frees",
    group: "idempotency",
    level: "SHOULD",
    section: "section 2, DEL: release an IP allocation even if the network namespace no longer exists",
    needs: ["pool"],
    title: "DEL frees the address when the pod's namespace is gone",
    async run(context) {
      const pool = poolOf(context);
      const { added } = await fill(context, pool);
      for (const { pod } of added) await context.vanish(pod);
      // Half of them as after a crash, half as after a reboot.
      const dels = await forEach([...added.entries()], ([index, one]) =>
        context.del(one, { conf: pool.conf, ...(index % 2 === 0 ? {} : { env: { CNI_NETNS: "" } }) }),
      );
      const again = await fill(context, pool);
      return verdictOf(
        dels.flatMap(succeeds),
        again.failed === undefined ? [] : [onlySome(again.added.length, pool.size)],
      );
    },
  },
  {
    id: "pool.no-prev-result-frees",
    group: "idempotency",
    level: "SHOULD",
    section: "0.4.0, DEL: when prevResult is not provided clean up as many resources as possible",
    needs: ["pool"],
    title: "DEL without prevResult frees the address",
    async run(context) {
      const pool = poolOf(context);
      const { added } = await fill(context, pool);
      const dels = await forEach(added, ({ pod }) => context.call("DEL", { pod, conf: pool.conf }));
      const again = await fill(context, pool);
      return verdictOf(
        dels.flatMap(succeeds),
        again.failed === undefined ? [] : [onlySome(again.added.length, pool.size)],
      );
    },
  },
  {
    id: "pool.failed-add-frees",
    group: "idempotency",
    level: "SHOULD",
    section: "section 2, Errors; section 4: DEL of the delegate when ADD fails",
    needs: ["pool"],
    kinds: ["interface"],
    title: "ADDs that fail for an interface that exists take no address away, even before their DEL",
    async run(context) {
      const pool = poolOf(context);
      const problems: string[] = [];
      await forEach(Array.from({ length: pool.size }), async () => {
        const pod = await context.newPod();
        await addForeignLink(pod.netns, pod.ifname);
        problems.push(...about("ADD", refuses(await context.call("ADD", { pod, conf: pool.conf }))));
      });
      const { added, failed } = await fill(context, pool);
      return verdictOf(problems.slice(0, 3), failed === undefined ? [] : [onlySome(added.length, pool.size)]);
    },
  },
];

function onlySome(given: number, size: number): string {
  return `only ${given} of ${size} addresses could be given afterwards`;
}
