// SPDX-License-Identifier: Apache-2.0
//
// What the daemon writes for runtimes, read as the plugin reads it.
import { expect, test } from "vitest";
import { parseGcConf, parsePluginConf } from "../cni/conf.ts";
import { SUPPORTED_VERSIONS } from "../cni/version.ts";
import { NETWORK_NAME, renderConflist } from "../footprint/conflist.ts";

const INPUT = { socket: "/run/f.sock", journalDir: "/s/journal", chained: [] };

/** What a runtime hands to the plugin of a list (CNI spec, section 3). */
function requestConf(text: string, version: string): string {
  const { name, plugins } = JSON.parse(text);
  const { capabilities: _, ...own } = plugins[0];
  return JSON.stringify({ ...own, name, cniVersion: version });
}

test("the plugin finds the daemon by what it is handed of it, in every version that is offered", () => {
  const text = renderConflist(INPUT);
  const { cniVersion, cniVersions } = JSON.parse(text);
  for (const version of [cniVersion, ...cniVersions]) {
    const conf = parsePluginConf(requestConf(text, version));
    expect(conf).toMatchObject({ name: NETWORK_NAME, socket: "/run/f.sock", journalDir: "/s/journal" });
    expect(conf.connectWaitMs).toBeLessThan(conf.timeoutMs);
  }
});

test("an old libcni takes the lowest version, a new one may take any up to the plugin's newest", () => {
  const { cniVersion, cniVersions } = JSON.parse(renderConflist(INPUT));
  expect(cniVersions[0]).toBe(cniVersion);
  expect(cniVersions.at(-1)).toBe(SUPPORTED_VERSIONS.at(-1));
  expect(cniVersions.every((version: never) => SUPPORTED_VERSIONS.includes(version))).toBe(true);
});

test("the plugin takes each capability that it declares", () => {
  const text = renderConflist(INPUT);
  const { capabilities } = JSON.parse(text).plugins[0];
  const values: Record<string, unknown> = {
    portMappings: [{ hostPort: 80, containerPort: 8080, protocol: "tcp" }],
    bandwidth: { ingressRate: 8000, ingressBurst: 8000, egressRate: 8000, egressBurst: 8000 },
    ips: ["10.0.0.9/24"],
    mac: "02:00:00:00:00:01",
    aliases: ["web"],
  };
  expect(Object.keys(capabilities).sort()).toEqual(Object.keys(values).sort());
  const conf = parsePluginConf(JSON.stringify({ ...JSON.parse(requestConf(text, "1.1.0")), runtimeConfig: values }));
  expect(conf).toMatchObject({
    requestedAddresses: ["10.0.0.9"],
    aliases: ["web"],
    portMappings: [{ hostPort: 80 }],
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  });
  expect(conf.bandwidth).toBeDefined();
});

test("GC may be called with it", () => {
  const conf = { ...JSON.parse(requestConf(renderConflist(INPUT), "1.1.0")), "cni.dev/valid-attachments": [] };
  expect(parseGcConf(JSON.stringify(conf), "flatnet").validAttachments.size).toBe(0);
});
