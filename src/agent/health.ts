// SPDX-License-Identifier: Apache-2.0
//
// Whether the daemon lives, and whether it is of use to pods. Two questions: a daemon that doesn't live is restarted, so nothing
// counts as death that a restart doesn't mend: not an API server, a peer or a neighbour that is away, not a full disk. What
// keeps pods from being served is told by the other one.
import { type HttpAnswer, type HttpServer, serveHttp } from "./http-server.ts";
import { stuckLoops } from "./loop.ts";

/** One thing that has to be right. */
export interface Check {
  /** One word or a few, without ":". */
  readonly name: string;
  /** Why it isn't right, in words; undefined when it is. What it throws is why, too. */
  readonly problem: () => string | undefined | Promise<string | undefined>;
}

/** What is asked of a part of the daemon, as long as it runs. */
export interface AgentChecks {
  /** What a restart mends. They have to be answered in time; the answer has to be that nothing is wrong. */
  readonly live: readonly Check[];
  /** What pods need. */
  readonly ready: readonly Check[];
}

/** The address can't be had. The message names it. */
export class HealthError extends Error {
  override readonly name = "HealthError";
  readonly code = "HEALTH_ADDRESS";
}

/** Longer than any pass takes, with everything in it timing out. */
const STUCK_MS = 120_000;
/** How long a check may take, in milliseconds. kubelet's probes wait for a second unless they are told otherwise. */
const CHECK_MS = 5_000;

export class Health {
  /** Who answers, the last that came first: an agent takes the place of whoever waits for it to be possible. */
  #entered: readonly AgentChecks[] = [];

  /**
   * Takes checks in, in the place of those that are there.
   * @returns what takes them out again
   */
  enter(checks: AgentChecks): () => void {
    this.#entered = [checks, ...this.#entered];
    return () => {
      this.#entered = this.#entered.filter((one) => one !== checks);
    };
  }

  /** GET /livez: that it answers at all says that the event loop turns. */
  async live(): Promise<HttpAnswer> {
    return await report("livez", [LOOPS, ...(this.#entered[0]?.live ?? [])]);
  }

  /** GET /readyz */
  async ready(): Promise<HttpAnswer> {
    return await report("readyz", this.#entered[0]?.ready ?? [NOBODY]);
  }
}

const NOBODY: Check = { name: "serving", problem: () => "the daemon is starting or stopping" };

const LOOPS: Check = {
  name: "loops",
  problem: () => {
    const stuck = stuckLoops(performance.now(), STUCK_MS);
    return stuck.length === 0 ? undefined : `no end for ${STUCK_MS / 1000} s: ${stuck.join(", ")}`;
  },
};

/** As Kubernetes' own servers write it with ?verbose. */
async function report(name: string, checks: readonly Check[]): Promise<HttpAnswer> {
  const problems = await Promise.all(checks.map(problemOf));
  const lines = checks.map(({ name }, i) =>
    problems[i] === undefined ? `[+]${name} ok` : `[-]${name}: ${problems[i]}`,
  );
  const ok = problems.every((problem) => problem === undefined);
  const body = [...lines, `${name} check ${ok ? "passed" : "failed"}`, ""].join("\n");
  return { code: ok ? 200 : 503, type: "text/plain; charset=utf-8", body };
}

async function problemOf({ problem }: Check): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${CHECK_MS / 1000} s`), CHECK_MS);
  });
  try {
    return await Promise.race([Promise.resolve().then(problem), late]);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Serves /livez, /readyz and /healthz, which is readyz' older name, until it is closed.
 * @throws HealthError when the address can't be had
 */
export async function serveHealth(
  health: Health,
  address: { readonly host: string; readonly port: number },
  onError: (error: unknown) => void,
): Promise<HttpServer> {
  const ready = () => health.ready();
  const pages = { "/livez": () => health.live(), "/readyz": ready, "/healthz": ready };
  try {
    return await serveHttp(address, pages, onError);
  } catch (cause) {
    const { host, port } = address;
    throw new HealthError(`health can't be served on ${host}:${port}: ${(cause as Error).message}`, { cause });
  }
}
