// SPDX-License-Identifier: Apache-2.0
//
// What Prometheus sees of the built daemon.
import { describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, run } from "../helpers/daemon.ts";
import { createNode } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";
import { createPod, resultOf } from "../helpers/plugin.ts";

describe.runIf(canUseKernel())("metrics", () => {
  test("follow the addresses that are given out, and count the plugin's calls", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const flags = ["--metrics-address", "127.0.0.1:9470"];
    const node = await createNode("metrics", cleanup, { podCidrs: ["10.80.1.0/24", "fd00:80:1::/64"], flags });
    await node.netns.ip("link", "set", "lo", "up");
    await node.start();
    const request = "exec 3<>/dev/tcp/127.0.0.1/9470; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    const scrape = async () => (await run(inNetns(node.netns.path, "bash", "-c", request))).split("\n");
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
