// SPDX-License-Identifier: Apache-2.0

import { documentOf } from "../context.ts";
import { about, refuses, succeeds } from "../expect.ts";
import { globalAddresses, readLink, withLength } from "../kernel.ts";
import { readResult } from "../result.ts";
import { expectThat, NotSupported, type Rule, verdictOf } from "../rule.ts";
import { addForeignLink } from "../sandbox.ts";

export const addRules: readonly Rule[] = [
  {
    id: "add.success",
    group: "ADD",
    level: "MUST",
    section: "section 2, ADD and Errors",
    title: "ADD exits with 0 and prints exactly one JSON document",
    async run(context) {
      const call = await context.call("ADD", { pod: await context.newPod() });
      const problems = succeeds(call);
      if (problems.length > 0) return verdictOf(problems);
      return verdictOf(expectThat(documentOf(call) !== undefined, "stdout is not one JSON object"));
    },
  },
  {
    id: "add.interface",
    group: "ADD",
    level: "MUST",
    section: "section 2, ADD: create the interface defined by CNI_IFNAME",
    kinds: ["interface"],
    title: "ADD makes the interface that CNI_IFNAME names, up and with an address",
    async run(context) {
      const pod = await context.newPod("net1");
      await context.add(pod);
      const link = await readLink(pod.netns, "net1");
      if (link === undefined) return verdictOf(["there is no net1 in the pod"]);
      return verdictOf(
        expectThat(link.flags.includes("UP"), "net1 is not up"),
        expectThat(globalAddresses(link).length > 0, "net1 has no address"),
      );
    },
  },
  {
    id: "add.longest-name",
    group: "ADD",
    level: "SHOULD",
    section: "section 2, Parameters: CNI_IFNAME",
    kinds: ["interface"],
    title: "ADD makes an interface whose name has all of the 15 characters that Linux allows",
    async run(context) {
      const pod = await context.newPod("abcdefghijklmno");
      await context.add(pod);
      return verdictOf(expectThat((await readLink(pod.netns, pod.ifname)) !== undefined, `there is no ${pod.ifname}`));
    },
  },
  {
    id: "add.usable",
    group: "ADD",
    level: "SHOULD",
    section: "convention: the container starts right after ADD; see also the reference plugins' wait for addresses",
    kinds: ["interface"],
    title: "No address is tentative when ADD returns",
    async run(context) {
      const { pod } = await context.addNew();
      const link = await readLink(pod.netns, pod.ifname);
      const tentative = globalAddresses(link).filter(
        (address) => address.tentative === true || address.dadfailed === true,
      );
      return verdictOf(tentative.map((address) => `${withLength(address)} is tentative`));
    },
  },
  {
    id: "add.exists",
    group: "ADD",
    level: "MUST",
    section: "section 2, ADD: if an interface of the requested name already exists, return with an error",
    kinds: ["interface"],
    title: "ADD fails when the pod has such an interface, which is left as it was, and leaves nothing",
    async run(context) {
      const pod = await context.newPod();
      await addForeignLink(pod.netns, pod.ifname, "192.0.2.7/24");
      const before = await context.look(pod);
      const call = await context.call("ADD", { pod });
      return verdictOf(refuses(call), await context.changesSince(before));
    },
  },
  {
    id: "add.exists-then-del",
    group: "ADD",
    level: "SHOULD",
    section: "section 3, Lifecycle & Ordering: DEL after a failed ADD",
    kinds: ["interface"],
    title: "DEL after an ADD that found a foreign interface succeeds",
    async run(context) {
      const pod = await context.newPod();
      await addForeignLink(pod.netns, pod.ifname);
      const add = await context.call("ADD", { pod });
      return verdictOf(about("ADD", refuses(add)), about("DEL", succeeds(await context.call("DEL", { pod }))));
    },
  },
  {
    id: "add.second-interface",
    group: "ADD",
    level: "SHOULD",
    section: "section 2, ADD: more than once only if each addition is done with a different interface name",
    kinds: ["interface"],
    title: "A container is added twice with two interface names, and a DEL of one leaves the other as it was",
    async run(context) {
      const first = await context.addNew();
      const surroundings = await context.look(first.pod);
      const second = await context.add({ ...first.pod, ifname: "eth1" });
      const addresses = [first, second].flatMap(({ result }) => result.addresses.map(({ address }) => address));
      const before = await readLink(first.pod.netns, "eth0");
      const del = await context.del(second);
      const after = await readLink(first.pod.netns, "eth0");
      const same = JSON.stringify(globalAddresses(before)) === JSON.stringify(globalAddresses(after));
      return verdictOf(
        expectThat(new Set(addresses).size === addresses.length, `the same address twice: ${addresses.join(", ")}`),
        about("DEL of eth1", succeeds(del)),
        expectThat(after !== undefined && same, "DEL of eth1 changed eth0"),
        expectThat((await readLink(first.pod.netns, "eth1")) === undefined, "eth1 is still there after its DEL"),
        await context.changesSince(surroundings),
      );
    },
  },
  {
    id: "add.unknown-key",
    group: "ADD",
    level: "SHOULD",
    section: "section 1, Other keys: plugins may refuse them, but runtimes pass on whatever is there",
    title: "Keys of the configuration that the plugin does not know are tolerated",
    async run(context) {
      const call = await context.call("ADD", {
        pod: await context.newPod(),
        conf: { "x-conformance": { nested: [1, null, "two"] } },
      });
      return verdictOf(succeeds(call));
    },
  },
  {
    id: "add.reserved-key",
    group: "ADD",
    level: "SHOULD",
    section: "section 1, Reserved keys: those that start with cni.dev/ belong to the protocol",
    since: "1.1.0",
    title: "A key of the protocol that the plugin does not know yet is tolerated",
    async run(context) {
      const call = await context.call("ADD", {
        pod: await context.newPod(),
        conf: { "cni.dev/of-a-later-version": [{ containerID: "a" }] },
      });
      return verdictOf(succeeds(call));
    },
  },
  {
    id: "add.args",
    group: "ADD",
    level: "SHOULD",
    section: "0.4.0, Network Configuration: args should be ignored if not understood; CONVENTIONS.md",
    title: "What the plugin does not understand of args, runtimeConfig and CNI_ARGS is ignored",
    async run(context) {
      const call = await context.call("ADD", {
        pod: await context.newPod(),
        env: { CNI_ARGS: "IgnoreUnknown=1;CONFORMANCE=yes;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=default" },
        conf: { args: { conformance: { labels: [{ key: "a", value: "b" }] } }, runtimeConfig: { conformance: true } },
      });
      return verdictOf(succeeds(call));
    },
  },
  {
    id: "add.no-cni-path",
    group: "ADD",
    level: "SHOULD",
    section: "section 2, ADD: CNI_PATH is optional (skel requires it)",
    kinds: ["interface"],
    title: "ADD of a plugin that delegates nothing needs no CNI_PATH",
    async run(context) {
      if (context.settings.conf.fields["ipam"] !== undefined) throw new NotSupported("the configuration has an ipam");
      return verdictOf(
        succeeds(await context.call("ADD", { pod: await context.newPod(), env: { CNI_PATH: undefined } })),
      );
    },
  },
  {
    id: "add.prev-result",
    group: "ADD",
    level: "MUST",
    section: "section 2, ADD; section 5, ADD Success: prevResult is passed through or modified",
    since: "0.3.0",
    kinds: ["interface"],
    title: "ADD after another plugin has that plugin's interface and address in its result",
    async run(context) {
      const pod = await context.newPod();
      await addForeignLink(pod.netns, "other0", "192.0.2.7/24");
      const mac = (await readLink(pod.netns, "other0"))?.address;
      const version = { "0.3.0": "4", "0.3.1": "4", "0.4.0": "4" }[context.spec as string];
      const prevResult = {
        cniVersion: context.spec,
        interfaces: [{ name: "other0", mac, sandbox: pod.netns.path }],
        ips: [{ ...(version === undefined ? {} : { version }), address: "192.0.2.7/24", interface: 0 }],
        routes: [],
        dns: {},
      };
      const call = await context.call("ADD", { pod, conf: { prevResult } });
      if (call.status !== 0 && [2, 7].includes(documentOf(call)?.["code"] as number)) {
        throw new NotSupported("the plugin says that it can't come after another one");
      }
      const problems = succeeds(call);
      if (problems.length > 0) return verdictOf(problems);
      const result = readResult(documentOf(call) ?? {}, context.spec);
      return verdictOf(
        expectThat(
          result.interfaces.some(({ name }) => name === "other0"),
          "other0 of prevResult is not in the result",
        ),
        expectThat(
          result.addresses.some(({ address, interface: index }) => {
            return address === "192.0.2.7" && result.interfaces[index ?? -1]?.name === "other0";
          }),
          "192.0.2.7 on other0 of prevResult is not in the result",
        ),
      );
    },
  },
  {
    id: "add.bystander",
    group: "ADD",
    level: "MUST",
    section: "section 2, ADD: what is created is the interface defined by CNI_IFNAME",
    kinds: ["interface"],
    title: "ADD for one container changes nothing in another one's namespace",
    async run(context) {
      const first = await context.addNew();
      const before = (await context.look(first.pod)).pods;
      await context.addNew();
      const now = await context.look();
      return verdictOf(await context.changesSince({ host: now.host, files: now.files, pods: before }));
    },
  },
];
