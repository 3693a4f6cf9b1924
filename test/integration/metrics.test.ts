// SPDX-License-Identifier: Apache-2.0
//
// What Prometheus sees of the built daemon.
import { describe, expect, onTestFinished, test } from "vitest";
import { Cleanup } from "../helpers/daemon.ts";
import { createNode } from "../helpers/flatnet-node.ts";
import { httpGet, METRICS_ADDRESS } from "../helpers/http-get.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { createPod, resultOf } from "../helpers/plugin.ts";

describe.runIf(canUseKernel())("metrics", () => {
  test("follow the addresses that are given out, and count the plugin's calls", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const flags = ["--metrics-address", METRICS_ADDRESS];
    const node = await createNode("metrics", cleanup, { podCidrs: ["10.80.1.0/24", "fd00:80:1::/64"], flags });
    await node.netns.ip("link", "set", "lo", "up");
    await node.start();
    const scrape = async () => (await httpGet(node.netns, METRICS_ADDRESS, "/metrics")).body.split("\n");
    const pod = await createPod("pod", cleanup);
    resultOf(await node.add(pod));
    const during = await scrape();
    expect(during).toEqual(
      expect.arrayContaining([
        'flatnet_ipam_addresses{subnet="10.80.1.0/24",pool="default",state="used"} 1',
        'flatnet_ipam_addresses{subnet="10.80.1.0/24",pool="default",state="free"} 253',
        'flatnet_ipam_addresses{subnet="fd00:80:1::/64",pool="default",state="used"} 1',
        'flatnet_rpc_calls_total{method="Allocate",status="OK"} 1',
        "flatnet_routes_synced 1",
      ]),
    );
    await node.del(pod);
    expect(await scrape()).toEqual(
      expect.arrayContaining([
        'flatnet_ipam_addresses{subnet="10.80.1.0/24",pool="default",state="used"} 0',
        'flatnet_ipam_addresses{subnet="10.80.1.0/24",pool="default",state="cooling"} 1',
        'flatnet_rpc_calls_total{method="Detach",status="OK"} 1',
      ]),
    );
  });
});
