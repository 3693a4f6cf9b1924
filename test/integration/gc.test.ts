import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import type { AllocateRequest, AllocateResponse } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { toServiceDefinition } from "../../src/ipam/server.ts";
import { type Added, added, check, newPod, runIpam, SILENCE, useNode, V4, V6 } from "../helpers/attachments.ts";
import { type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { failureOf, resultOf, runPlugin } from "../helpers/plugin.ts";

/** Asks the daemon for addresses as another program would. */
function allocate(node: FlatnetNode, request: Partial<AllocateRequest>): Promise<AllocateResponse> {
  const Client = makeGenericClientConstructor(toServiceDefinition(), "IpamService");
  const client = new Client(`unix:${node.socket}`, credentials.createInsecure());
  const call = client["allocate"] as unknown as (
    request: AllocateRequest,
    done: (error: Error | null, response: AllocateResponse) => void,
  ) => void;
  return new Promise<AllocateResponse>((resolve, reject) => {
    call.call(
      client,
      {
        attachment: undefined,
        pod: undefined,
        netns: "",
        hostIfname: "",
        requestedAddresses: [],
        portMappings: [],
        withGateway: false,
        aliases: [],
        podEnd: undefined,
        pool: "",
        sticky: undefined,
        ...request,
      },
      (error, response) => (error ? reject(error) : resolve(response)),
    );
  }).finally(() => client.close());
}

describe.runIf(canUseKernel())("GC", () => {
  const node = useNode("gc", [V4, V6]);
  const gc = (conf: object) =>
    runPlugin(node().netns, { CNI_COMMAND: "GC", CNI_PATH: "/opt/cni/bin" }, node().conf(conf));
  const key = ({ pod }: Added) => ({ containerID: pod.containerId, ifname: "eth0" });

  test.each(["cni.dev/valid-attachments", "cni.dev/attachments"])(
    "by %s keeps what is listed and frees the rest, links and addresses, without a word",
    async (list) => {
      const [kept, ...gone] = [await added(node()), await added(node()), await added(node())] as const;
      expect(await gc({ [list]: [key(kept)] })).toEqual(SILENCE);
      const traces = await node().traces();
      expect(traces).toEqual({
        links: [kept.host],
        routes: [...kept.addresses].sort(),
        records: [...kept.addresses].sort(),
        journal: [],
      });
      expect(await check(node(), kept)).toEqual(SILENCE);
      for (const { pod } of gone) expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
      for (const { pod } of [kept, ...gone]) expect(await node().del(pod)).toEqual(SILENCE);
    },
  );

  test("prefers the newer list where both are", async () => {
    const it = await added(node());
    expect(await gc({ "cni.dev/valid-attachments": [key(it)], "cni.dev/attachments": [] })).toEqual(SILENCE);
    expect((await node().traces()).links).toEqual([it.host]);
    await node().del(it.pod);
  });

  test("tells one interface of a container from another", async () => {
    const pod = await newPod();
    const first = resultOf(await node().add(pod));
    const routes = [{ dst: "192.0.2.0/24" }];
    await pod.netns.ip("route", "flush", "all");
    await pod.netns.ip("-6", "route", "delete", "default");
    resultOf(await node().run("ADD", pod, { env: { CNI_IFNAME: "net1" }, conf: { routes } }));
    expect(await gc({ "cni.dev/valid-attachments": [{ containerID: pod.containerId, ifname: "eth0" }] })).toEqual(
      SILENCE,
    );
    expect((await node().traces()).links).toEqual([first.interfaces[0]?.name]);
    await node().del(pod);
  });

  test("leaves other networks alone", async () => {
    const other = await added(node(), { name: "other" });
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect((await node().traces()).links).toEqual([other.host]);
    expect(await check(node(), other, { name: "other" })).toEqual(SILENCE);
    await node().del(other.pod, { name: "other" });
  });

  test("with an empty list frees all, and twice is as good as once", async () => {
    await added(node());
    await added(node());
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
  });

  test("frees what has lost its link and its namespace already", async () => {
    const it = await added(node());
    await node().netns.ip("link", "delete", it.host);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });

  test("frees more links than go in one request", async () => {
    await Promise.all(Array.from({ length: 70 }, () => added(node())));
    expect((await node().traces()).links).toHaveLength(70);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });

  test("goes on after a link that can't be deleted, names it, and keeps its address", async () => {
    const gone = [await added(node()), await added(node())];
    // A link that is a namespace's own can't be deleted.
    const stuck = { network: "tests", containerId: "stuck", ifname: "eth0" };
    const { addresses } = await allocate(node(), { attachment: stuck, netns: "/run/netns/none", hostIfname: "lo" });
    const failure = failureOf(await gc({ "cni.dev/valid-attachments": [] }));
    expect(failure).toMatchObject({ code: 100, msg: "1 of 3 attachments could not be removed" });
    expect(failure.details).toContain("stuck/eth0");
    expect(failure.details).toContain("delete link lo: ");
    expect(await node().traces()).toEqual({ ...NO_TRACES, records: [...addresses].sort() });
    for (const { pod } of gone) expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
    expect(await runIpam(node(), "DEL", { containerId: "stuck", netns: node().netns })).toEqual(SILENCE);
  });

  test.each([
    ["a missing list", {}],
    ["null", { "cni.dev/valid-attachments": null }],
    ["an object", { "cni.dev/valid-attachments": {} }],
    ["an entry without ifname", { "cni.dev/valid-attachments": [{ containerID: "c" }] }],
    ["an entry without containerID", { "cni.dev/attachments": [{ ifname: "eth0" }] }],
    ["an entry that is no object", { "cni.dev/valid-attachments": ["c/eth0"] }],
  ])("with %s is refused with code 7 and frees nothing", async (_what, conf) => {
    const it = await added(node());
    const failure = failureOf(await gc(conf));
    expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 7 });
    expect(failure.details).toContain("cni.dev/");
    expect((await node().traces()).links).toEqual([it.host]);
    await node().del(it.pod);
  });

  test.each(["0.1.0", "0.3.1", "0.4.0", "1.0.0"])("in %s is refused with code 1", async (cniVersion) => {
    const failure = failureOf(await gc({ cniVersion, "cni.dev/valid-attachments": [] }));
    expect(failure).toMatchObject({ cniVersion, code: 1, details: expect.stringContaining("GC") });
  });

  test("while the daemon is away is code 11 and removes nothing", async () => {
    const it = await added(node());
    await node().stop();
    const failure = failureOf(await gc({ "cni.dev/valid-attachments": [], connectWaitMs: 0 }));
    expect(failure).toMatchObject({ code: 11, details: expect.stringContaining(node().socket) });
    expect((await node().tracesWithoutDaemon()).links).toEqual([it.host]);
    await node().start();
    await node().del(it.pod);
  });
});
