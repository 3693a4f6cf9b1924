// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { parseAwaitedDel, readAwaitedDels } from "./libcni-cache.ts";

/** A file as libcni writes it, of an attachment of this network. */
function cached(config: unknown, more: object = {}): string {
  return JSON.stringify({
    kind: "cniCacheV1",
    containerId: "c0ffee",
    config: Buffer.from(JSON.stringify(config)).toString("base64"),
    ifName: "eth0",
    networkName: "flatnet",
    cniArgs: [
      ["K8S_POD_NAMESPACE", "web"],
      ["K8S_POD_NAME", "front-0"],
    ],
    result: { interfaces: [{ name: "eth0", sandbox: "/run/netns/front" }] },
    ...more,
  });
}

const LIST = { name: "flatnet", plugins: [{ type: "flatnet" }, { type: "tuning" }] };
const DELEGATE = { name: "pods", plugins: [{ type: "bridge", ipam: { type: "flatnet-ipam" } }] };

test.for<[what: string, config: unknown]>([
  ["flatnet's list", LIST],
  ["another plugin's with flatnet-ipam", DELEGATE],
  ["one plugin's configuration without a list", { name: "flatnet", type: "flatnet" }],
])("an attachment of %s will be deleted by calling the plugin", ([, config]) => {
  expect(parseAwaitedDel(cached(config))).toEqual({
    containerId: "c0ffee",
    pod: { namespace: "web", name: "front-0", uid: "" },
    netns: "/run/netns/front",
  });
});

test.for<[what: string, text: string]>([
  ["another network", cached({ name: "kindnet", plugins: [{ type: "ptp", ipam: { type: "host-local" } }] })],
  ["a configuration that is none", cached("flatnet")],
  ["a cache of another kind", cached(LIST, { kind: "cniCacheV9", config: 7 })],
  ["a torn file", cached(LIST).slice(0, 40)],
  ["an empty file", ""],
])("%s is nobody that calls it", ([, text]) => {
  expect(parseAwaitedDel(text)).toBeUndefined();
});

test("all of a directory are read, and none where there is none", async () => {
  const root = fs.mkdtempSync(join(tmpdir(), "flatnet-cache-"));
  onTestFinished(() => fs.rmSync(root, { recursive: true, force: true }));
  expect(await readAwaitedDels(root)).toEqual([]);
  fs.mkdirSync(join(root, "results"));
  fs.writeFileSync(join(root, "results", "flatnet-a-eth0"), cached(LIST, { containerId: "a" }));
  fs.writeFileSync(join(root, "results", "flatnet-b-eth0"), cached(DELEGATE, { containerId: "b" }));
  fs.writeFileSync(join(root, "results", "junk"), "{");
  fs.mkdirSync(join(root, "results", "directory"));
  expect((await readAwaitedDels(root)).map(({ containerId }) => containerId)).toEqual(["a", "b"]);
});
