// SPDX-License-Identifier: Apache-2.0
//
// Entry point of the daemon and, under the name flatnetctl, of the operator's commands. Either loads only its own part.
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import type { HttpServer } from "../agent/http-server.ts";
import type { CtlWorld } from "../ctl/world.ts";
import { sizeThreadPool } from "../sys/thread-pool.ts";

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  if (basename(process.argv0) !== "flatnetctl") return await runDaemon(args);
  const { runCtl } = await import("../ctl/ctl.ts");
  return await runCtl(args, ctlWorld());
}

/** The programs are installed side by side. */
function ctlWorld(): CtlWorld {
  const here = dirname(process.execPath);
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => interrupt.abort(name));
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    color: process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "",
    uid: process.geteuid?.() ?? -1,
    plugin: join(here, "flatnet"),
    daemon: join(here, "flatnetd"),
    selfCommand: [join(here, "flatnetctl")],
    signal: interrupt.signal,
    now: Date.now,
  };
}

async function runDaemon(args: string[]): Promise<number> {
  // A look at ten thousand routes leaves more garbage than all that a daemon lives on, unless it is collected early.
  setFlagsFromString("--optimize-for-size");
  sizeThreadPool(process.env);
  const { parseConfig } = await import("../agent/config.ts");
  let config: ReturnType<typeof parseConfig>;
  try {
    config = parseConfig(args, (path) => readFileSync(path, "utf8"));
  } catch (error) {
    process.stderr.write(`flatnetd: ${(error as Error).message}\n`);
    return 2;
  }
  if (config === "help") {
    const { USAGE } = await import("../agent/config-flags.ts");
    process.stdout.write(USAGE);
    return 0;
  }
  // What the daemon makes is root's alone.
  process.umask(0o077);
  const { createLog } = await import("../agent/log.ts");
  const log = createLog(config.logLevel, config.nodeName);
  const stopping = (name: string) => log.info({ signal: name }, "stopping");
  // From here on, so that a SIGTERM during the start stops what has been started.
  const signal = new Promise<string>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve(name));
  });
  const { Health, serveHealth } = await import("../agent/health.ts");
  const health = new Health();
  let healthServer: HttpServer | undefined;
  try {
    if (config.healthAddress !== undefined) {
      const onError = (err: unknown) => log.error({ err }, "health could not be told");
      healthServer = await serveHealth(health, config.healthAddress, onError);
    }
    const { runAgent } = await import("../agent/daemon.ts");
    const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = process.env;
    await runAgent({ config, service: { host, port }, health, ended: signal.then(stopping), log });
    log.info("stopped");
    return 0;
  } catch (err) {
    log.fatal({ err }, `flatnetd can't go on: ${(err as Error).message}`);
    return 1;
  } finally {
    await healthServer?.close();
  }
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 70;
  },
);
