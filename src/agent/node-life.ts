// SPDX-License-Identifier: Apache-2.0
//
// What of the daemon's life on a node others see: the record of what it changed, the files that runtimes read, its health.
import { dirname, join } from "node:path";
import { renderConflist } from "../footprint/conflist.ts";
import { PLUGIN_NAMES, PluginFiles } from "../footprint/plugin-files.ts";
import { FootprintRecord } from "../footprint/record.ts";
import type { IpamService } from "../ipam/service.ts";
import type { Config } from "./config.ts";
import { ConflistKeeper } from "./conflist-keeper.ts";
import type { AgentChecks } from "./health.ts";
import type { Log } from "./log.ts";
import { callSelf } from "./self-call.ts";

export const NOT_SYNCED = "the routes to the other nodes have not been in order yet";

/**
 * One that can't be read is no reason for a node without pods: it is begun anew, and leaving will not find what was in it.
 * @throws FootprintError when it can't be written
 */
export async function openFootprint({ stateDir, socket, routes }: Config, log: Log): Promise<FootprintRecord> {
  const record = await FootprintRecord.open(stateDir, (err) =>
    log.error({ err }, "what earlier daemons changed on this node, files and sysctls, is not known any more"),
  );
  const bird = routes.mode === "bgp" ? { program: routes.bgp.bird, table: routes.table } : record.now.bird;
  await record.set({ socket, bird });
  return record;
}

/**
 * Looks after the plugin and the conflist, from now on.
 * @param waitsFor what pods can't be served without, in words; undefined once it is there
 * @param tell operators what somebody else does to them
 */
export function keepCniFiles(
  { cni, socket, stateDir }: Config,
  record: FootprintRecord,
  waitsFor: () => string | undefined,
  log: Log,
  tell: (reason: string, message: string) => void,
): ConflistKeeper {
  const { binDir, confDir, confName, chained } = cni;
  const text = renderConflist({ socket, journalDir: join(stateDir, "journal"), chained });
  return ConflistKeeper.start({
    // The programs are delivered side by side.
    plugin:
      binDir === undefined
        ? undefined
        : { directory: binDir, files: new PluginFiles(join(dirname(process.execPath), PLUGIN_NAMES[0]), binDir) },
    conflist: confDir === undefined ? undefined : { directory: confDir, name: confName, text },
    waitsFor,
    record,
    log,
    tell,
  });
}

export interface CheckedParts {
  readonly config: Config;
  readonly service: IpamService;
  readonly synced: () => boolean;
  readonly files: ConflistKeeper;
  /** undefined where network policies aren't enforced. */
  readonly policy: { readonly problem: string | undefined } | undefined;
}

/** What has to be right of a daemon that serves. */
export function checksOf({ config, service, synced, files, policy }: CheckedParts): AgentChecks {
  const api = { name: "api", problem: () => callSelf(config.socket) };
  const database = async () => {
    await service.tryWrite();
    return undefined;
  };
  return {
    // A write that fails has an end too; a disk that is full stays full over a restart.
    live: [api, { name: "database", problem: () => database().catch(() => undefined) }],
    ready: [
      api,
      { name: "database", problem: database },
      { name: "routes", problem: () => (synced() ? undefined : NOT_SYNCED) },
      ...(policy === undefined ? [] : [{ name: "policies", problem: () => policy.problem }]),
      ...(config.cni.binDir === undefined ? [] : [{ name: "plugin", problem: () => files.pluginProblem }]),
      ...(config.cni.confDir === undefined ? [] : [{ name: "conflist", problem: () => files.conflistProblem }]),
    ],
  };
}
