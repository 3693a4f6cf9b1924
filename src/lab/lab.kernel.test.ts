// SPDX-License-Identifier: Apache-2.0
//
// The lab with programs that fail: a few lines of shell in the place of the daemon and the plugin.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, waitFor } from "../../test/helpers/daemon.ts";
import { canUseKernel } from "../../test/helpers/netns.ts";
import { runLab } from "./lab.ts";
import { nodePaths } from "./state.ts";
import { isAnythingLeft, sweep } from "./sweep.ts";
import { SELF_COMMAND } from "./testing/self-command.ts";

/** A daemon that says it serves, and ends cleanly. */
const SERVING = `trap 'kill $!; exit 0' TERM; echo '{"level":30,"msg":"serving"}'; sleep 1000 & wait`;

/** A veth pair and a route each way: all that one pod needs to be reached from its node. */
const ATTACH = `
  pod=$(basename "$CNI_NETNS")
  ip link add flabcdefgh234 type veth peer name eth0 netns "$pod"
  ip link set flabcdefgh234 up
  ip -n "$pod" address add 10.244.1.7/32 dev eth0
  ip -n "$pod" link set eth0 up
  ip -n "$pod" route add 172.18.0.11 dev eth0
  ip route add 10.244.1.7/32 dev flabcdefgh234 proto 70
  echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.7/32"}]}'`;

const cleanup = new Cleanup();
let name: string;
let folder: string;

async function script(file: string, lines: string): Promise<string> {
  const path = join(folder, file);
  await writeFile(path, `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  return path;
}

interface Ended {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function lab(
  programs: { daemon: string; plugin: string },
  args: string[] = ["--nodes", "2", "--pods", "1", "--family", "v4"],
  signal: AbortSignal = new AbortController().signal,
): Promise<Ended> {
  const text = { stdout: "", stderr: "" };
  const output = (stream: "stdout" | "stderr") => ({
    write: (words: string) => {
      text[stream] += words;
    },
  });
  const status = await runLab([...args, "--name", name], {
    stdout: output("stdout"),
    stderr: output("stderr"),
    color: false,
    uid: 0,
    daemon: await script("flatnetd", programs.daemon),
    plugin: await script("flatnet", programs.plugin),
    selfCommand: SELF_COMMAND,
    signal,
  });
  return { status, ...text };
}

describe.runIf(canUseKernel())("a lab", () => {
  beforeEach(async () => {
    name = `t-${randomBytes(3).toString("hex")}`;
    cleanup.add(() => sweep(name));
    folder = await mkdtemp(join(tmpdir(), "flatnet-lab-"));
    cleanup.add(() => rm(folder, { recursive: true }));
  });
  afterEach(() => cleanup.run());

  test("whose daemon dies shows the end of its log and leaves nothing", async () => {
    const dies = "echo 'no room in /var' >&2; exit 3";
    const { status, stdout, stderr } = await lab({ daemon: dies, plugin: "exit 0" });
    expect(status).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(
      /^flatnetctl lab: flatnetd of node\d ended before it served \(exit code 3\)\n {2}no room in \/var\n$/,
    );
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("whose plugin fails shows the CNI error and the daemon's log, and leaves nothing", async () => {
    const plugin = `echo '{"cniVersion":"1.1.0","code":11,"msg":"flatnetd is not there","details":"ENOENT"}'; exit 1`;
    const { status, stderr } = await lab({ daemon: SERVING, plugin });
    expect(status).toBe(1);
    expect(stderr).toBe(
      "flatnetctl lab: ADD of node1-pod1 failed: code 11: flatnetd is not there: ENOENT\n" +
        `  flatnetd of node1: {"level":30,"msg":"serving"}\n`,
    );
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("whose plugin claims an address that it did not give is not flat", async () => {
    const plugin = `echo '{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.7/32"}]}'`;
    const { status, stdout } = await lab({ daemon: SERVING, plugin }, [
      "--nodes",
      "1",
      "--pods",
      "1",
      "--family",
      "v4",
    ]);
    expect(status).toBe(1);
    expect(stdout.trimEnd().split("\n").at(-1)).toMatch(
      /^NOT FLAT: pods reach nodes: node1-pod1 10\.244\.1\.7 -> node1 172\.18\.0\.11 \(tcp, IPv4\): network unreachable/,
    );
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("whose DEL fails is not clean", async () => {
    const plugin = `
      test "$CNI_COMMAND" = DEL && { echo '{"code":100,"msg":"busy"}'; exit 1; }
      ${ATTACH}`;
    const { status, stdout } = await lab({ daemon: SERVING, plugin }, [
      "--nodes",
      "1",
      "--pods",
      "1",
      "--family",
      "v4",
    ]);
    expect(stdout).toContain("✗ DEL left link flabcdefgh234 on node1");
    expect(stdout).toContain("✗ DEL left route to 10.244.1.7 on node1");
    expect(stdout.trimEnd().split("\n").at(-1)).toBe(
      "NOT CLEAN: DEL of node1-pod1 failed: code 100: busy (and 2 more)",
    );
    expect(status).toBe(1);
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("whose daemon ends by itself is not clean", async () => {
    const daemon = `echo '{"level":30,"msg":"serving"}'; while ! test -e ${folder}/attached; do sleep 0.05; done; exit 4`;
    const plugin = `
      test "$CNI_COMMAND" = DEL && exec ip link delete flabcdefgh234
      ${ATTACH}
      touch ${folder}/attached
      while pgrep -f "^/bin/sh ${folder}/flatnetd" > /dev/null; do sleep 0.05; done`;
    const { stdout } = await lab({ daemon, plugin }, ["--nodes", "1", "--pods", "1", "--family", "v4"]);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("NOT CLEAN: flatnetd of node1 ended by itself (exit code 4)");
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("that is interrupted while a daemon does not come up leaves nothing", async () => {
    const interrupt = new AbortController();
    const running = lab({ daemon: "echo waiting; exec sleep 1000", plugin: "exit 0" }, undefined, interrupt.signal);
    await waitFor(() => existsSync(nodePaths(name, "node2").log));
    interrupt.abort("SIGINT");
    expect(await running).toEqual({
      status: 130,
      stdout: "",
      stderr: "flatnetctl lab: interrupted; everything it made is removed\n",
    });
    expect(await isAnythingLeft(name)).toBe(false);
  });

  test("that is interrupted while the plugin hangs leaves nothing", async () => {
    const interrupt = new AbortController();
    const hangs = `touch ${folder}/hangs; exec sleep 1000`;
    const running = lab({ daemon: SERVING, plugin: hangs }, undefined, interrupt.signal);
    await waitFor(() => existsSync(join(folder, "hangs")));
    interrupt.abort("SIGTERM");
    expect(await running).toMatchObject({ status: 143 });
    expect(await isAnythingLeft(name)).toBe(false);
  });
});
