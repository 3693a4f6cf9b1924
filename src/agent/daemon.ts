// SPDX-License-Identifier: Apache-2.0
import { startAgent } from "./agent.ts";
import type { Config } from "./config.ts";
import type { Health } from "./health.ts";
import type { Kubernetes } from "./kubernetes.ts";
import type { Log } from "./log.ts";
import { giveBackStart } from "./own-memory.ts";

export interface AgentRun {
  readonly config: Config;
  /** KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, as the environment has them. */
  readonly service: { readonly host: string | undefined; readonly port: string | undefined };
  readonly health: Health;
  /** Resolves when it is time to end. */
  readonly ended: Promise<unknown>;
  readonly log: Log;
}

/**
 * Runs the daemon from its start to its end.
 * @throws whatever it can't start for; nothing is left running
 */
export async function runAgent({ config, service, health, ended, log }: AgentRun): Promise<void> {
  const runFixed = async (kubernetes?: Kubernetes) => {
    const agent = await startAgent(config, log, { health, kubernetes });
    kubernetes?.begin();
    giveBackStart(log);
    await ended;
    await agent.stop();
  };
  if (config.kubernetes === undefined) return runFixed();
  // Loaded only where somebody asks for it: a daemon without Kubernetes is smaller.
  const [{ Kubernetes }, { supervise }] = await Promise.all([import("./kubernetes.ts"), import("./supervise.ts")]);
  const kubernetes = await Kubernetes.open({ ...config.kubernetes, service }, config, log);
  const { own } = kubernetes;
  // Until an agent has checks of its own.
  const subnets = () => (own.node === undefined ? own.waitsFor : "the daemon is starting");
  const leave = health.enter({ live: [], ready: [{ name: "subnets", problem: subnets }] });
  try {
    const start = async (fitted: Config) => {
      const agent = await startAgent(fitted, log, { health, kubernetes });
      kubernetes.begin();
      giveBackStart(log);
      return agent;
    };
    if (config.podCIDRs.length > 0) await runFixed(kubernetes);
    else await supervise({ config, own, start, ended, log });
  } finally {
    leave();
    await kubernetes.close();
  }
}
