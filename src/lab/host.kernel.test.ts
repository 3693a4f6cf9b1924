// SPDX-License-Identifier: Apache-2.0
//
// Lab hosts in two namespaces that are joined by a cable: what they see of each other.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run, startDaemon, waitFor } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, joinByCable, type Netns } from "../../test/helpers/netns.ts";
import { LabHost } from "./host-client.ts";
import type { Probed, Target } from "./probe.ts";
import { SELF_COMMAND } from "./testing/self-command.ts";

const PORT = 10070;

const cleanup = new Cleanup();
let a: Netns;
let b: Netns;

async function startHost(name: string, netns: Netns): Promise<LabHost> {
  const host = await LabHost.start(name, netns.name, SELF_COMMAND, new AbortController().signal);
  cleanup.add(() => host.stop());
  return host;
}

async function probeAll(host: LabHost, targets: Target[], timeoutMs = 2000): Promise<Probed[]> {
  const results: Probed[] = [];
  await host.probe(targets, timeoutMs, (index, result) => {
    results[index] = result;
  });
  return results;
}

function target(address: string, protocol: "tcp" | "udp", port = PORT): Target {
  return { address, port, protocol, family: address.includes(":") ? 6 : 4 };
}

describe.runIf(canUseKernel())("lab hosts", () => {
  beforeEach(async () => {
    a = await createNetns("lab-a", cleanup);
    b = await createNetns("lab-b", cleanup);
    await joinByCable(
      { netns: a, ifname: "eth0", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
      { netns: b, ifname: "eth0", addresses: ["192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"] },
    );
  });
  afterEach(() => cleanup.run());

  test("tell over TCP and UDP, in both families, who they are, whom they saw and where they were reached", async () => {
    const [one, two] = [await startHost("a", a), await startHost("b", b)];
    const own = await two.listen(PORT, [4, 6]);
    expect([...own].sort()).toEqual(["192.0.2.2", "192.0.2.3", "2001:db8::2"]);
    const targets = ["192.0.2.2", "192.0.2.3", "2001:db8::2"].flatMap((address) => [
      target(address, "tcp"),
      target(address, "udp"),
    ]);
    expect(await probeAll(one, targets)).toEqual(
      targets.map(({ address, family }) => {
        const local = family === 4 ? "192.0.2.1" : "2001:db8::1";
        return { kind: "answered", receiver: "b", saw: local, reachedAt: address, local };
      }),
    );
  });

  test("answer in the families they were asked for only", async () => {
    const [one, two] = [await startHost("a", a), await startHost("b", b)];
    await two.listen(PORT, [6]);
    const kinds = await probeAll(one, [target("192.0.2.2", "tcp"), target("2001:db8::2", "udp")]);
    expect(kinds.map((result) => result.kind)).toEqual(["failed", "answered"]);
  });

  test("say why there was no answer", async () => {
    const one = await startHost("a", a);
    await b.ip("route", "add", "blackhole", "192.0.2.1/32");
    const refused = "refused, nobody listens there (ECONNREFUSED)";
    expect(await probeAll(one, [target("2001:db8::2", "tcp"), target("2001:db8::2", "udp")])).toEqual([
      { kind: "failed", error: refused },
      { kind: "failed", error: refused },
    ]);
    expect(await probeAll(one, [target("192.0.2.2", "tcp"), target("192.0.2.2", "udp")], 100)).toEqual([
      { kind: "failed", error: "no answer in 100 ms" },
      { kind: "failed", error: "no answer in 100 ms" },
    ]);
    expect(await probeAll(one, [target("198.51.100.1", "tcp"), target("198.51.100.1", "udp")])).toEqual([
      { kind: "failed", error: "network unreachable (ENETUNREACH)" },
      { kind: "failed", error: "network unreachable (ENETUNREACH)" },
    ]);
  });

  test("are not fooled by another program on the port", async () => {
    const one = await startHost("a", a);
    const impostor = `require("net").createServer((s) => s.end("hello")).listen(${PORT}, () => console.log("up"))`;
    const program = await startDaemon({
      argv: b.command(process.execPath, "-e", impostor),
      ready: (output) => output.includes("up"),
    });
    cleanup.add(() => program.stop());
    expect(await probeAll(one, [target("192.0.2.2", "tcp")])).toEqual([
      { kind: "failed", error: "something else answered" },
    ]);
  });

  test("run a program as a runtime does: with that environment and stdin, in that namespace", async () => {
    const one = await startHost("a", a);
    const script = 'printf "%s|%s|" "$WHO" "$UNSET"; cat; ip -o -4 address show dev eth0 >&2; exit 3';
    const ended = await one.run({
      command: "/bin/sh",
      args: ["-c", script],
      env: { WHO: "me", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
      stdin: "the input",
      timeoutMs: 20_000,
    });
    expect(ended).toMatchObject({ code: 3, stdout: "me||the input" });
    expect(ended.stderr).toContain("192.0.2.1/24");
    expect(ended.ms).toBeGreaterThan(0);
  });

  test("end a program that takes too long, and report one that is not there", async () => {
    const one = await startHost("a", a);
    const nothing = { args: [], env: {}, stdin: "", timeoutMs: 20_000 };
    const slow = { ...nothing, command: "/bin/sleep", args: ["1000"], timeoutMs: 50 };
    expect(await one.run(slow)).toMatchObject({ code: 128 + 9 });
    await expect(one.run({ ...nothing, command: "/nonexistent/program" })).rejects.toMatchObject({
      code: "LAB_HOST_FAILED",
      message: expect.stringMatching(/^a: .*ENOENT/),
    });
  });

  test("leave no process when they are stopped or when their lab dies", async () => {
    const one = await startHost("a", a);
    await one.listen(PORT, [4, 6]);
    expect((await run(["ip", "netns", "pids", a.name])).trim()).not.toBe("");
    await one.stop();
    await waitFor(async () => (await run(["ip", "netns", "pids", a.name])).trim() === "");
    await expect(one.listen(PORT, [4])).rejects.toMatchObject({ code: "LAB_HOST_FAILED" });
  });

  test("that are killed fail what was asked of them", async () => {
    const one = await startHost("a", a);
    const asked = one.run({ command: "/bin/sleep", args: ["5"], env: {}, stdin: "", timeoutMs: 20_000 });
    const failed = expect(asked).rejects.toMatchObject({ message: "the process in a ended (SIGKILL)" });
    one.kill();
    await failed;
  });

  test("that cannot start say why", async () => {
    const self = ["/bin/sh", "-c", "echo no such luck >&2; exit 5"];
    await expect(LabHost.start("a", a.name, self, new AbortController().signal)).rejects.toMatchObject({
      code: "LAB_HOST_FAILED",
      message: "the process in a ended (exit code 5)",
      detail: ["no such luck"],
    });
  });
});
