// SPDX-License-Identifier: Apache-2.0
//
// A node's own BIRD: its files, its start, and what it is told. BIRD belongs to the node's data path and not to the daemon,
// as routes do: it is started as a daemon of its own, outlives flatnetd, and is found again by its control socket.
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { askBird, type Reply } from "./control.ts";
import { BgpError } from "./errors.ts";
import { renderRelease, renderRemoval } from "./render.ts";

const RUN_TIMEOUT_MS = 20_000;

/** Where a node's BIRD has its files. */
export interface BirdPaths {
  readonly dir: string;
  readonly config: string;
  /** Control socket. */
  readonly socket: string;
  readonly pid: string;
  readonly log: string;
}

/** @param stateDir the daemon's; the folder in it is the mark of a node that speaks BGP, and is gone when it doesn't any more */
export function birdPaths(stateDir: string): BirdPaths {
  const dir = join(stateDir, "bird");
  return {
    dir,
    config: join(dir, "bird.conf"),
    socket: join(dir, "bird.ctl"),
    pid: join(dir, "bird.pid"),
    log: join(dir, "bird.log"),
  };
}

export class Bird {
  readonly paths: BirdPaths;
  readonly #program: string;
  readonly #table: number;

  /**
   * @param program path of BIRD itself
   * @param table the kernel's table for routes to peers
   */
  constructor(paths: BirdPaths, program: string, table: number) {
    this.paths = paths;
    this.#program = program;
    this.#table = table;
  }

  /** @throws BgpError BGP_NO_BIRD */
  async requireProgram(): Promise<void> {
    try {
      await access(this.#program, constants.X_OK);
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code === "ENOENT" ? "is not there" : "can't be run";
      throw new BgpError(
        "BGP_NO_BIRD",
        `routes.bgp.bird: ${this.#program} ${why} (Debian: apt-get install bird2)`,
        cause,
      );
    }
  }

  /** Whether there has been a BIRD of this node, dead or alive. */
  async hasBeen(): Promise<boolean> {
    return await readFile(this.paths.config).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return false;
        throw error;
      },
    );
  }

  /** @throws BgpError BGP_BIRD_AWAY when it doesn't run, BGP_BIRD_FAILED */
  async ask(...commands: string[]): Promise<Reply[]> {
    return await askBird(this.paths.socket, commands);
  }

  /**
   * Has BIRD check the configuration, and puts it in its place in one step. BIRD is not told.
   * @throws BgpError BGP_CONFIG_REFUSED; the configuration before stays in place
   */
  async install(config: string): Promise<void> {
    await mkdir(this.paths.dir, { recursive: true, mode: 0o700 });
    const next = `${this.paths.config}.new`;
    const file = await open(next, "w", 0o600);
    try {
      await file.writeFile(config);
      await file.sync();
    } finally {
      await file.close();
    }
    try {
      await this.#run(["-p", "-c", next]);
    } catch (error) {
      if (!(error instanceof BgpError) || error.code !== "BGP_BIRD_FAILED") throw error;
      throw new BgpError("BGP_CONFIG_REFUSED", `BIRD refuses its configuration: ${error.message}`, error);
    }
    await rename(next, this.paths.config);
  }

  /** Has the BIRD that runs read the configuration that is in its place. */
  async reload(): Promise<void> {
    // A retirement that did not get to its end has let go of the kernel.
    await this.ask(`configure "${this.paths.config}"`, "enable kernel4", "enable kernel6");
  }

  /**
   * Starts BIRD with the configuration that is in its place, and returns when it runs.
   * @param recover its routes are in the kernel from before: they stay until the peers have said what they have to say
   * @throws BgpError BGP_BIRD_FAILED with its words
   */
  async start(recover: boolean): Promise<void> {
    const { config, socket, pid } = this.paths;
    await this.#run(["-c", config, "-s", socket, "-P", pid, ...(recover ? ["-R"] : [])]);
  }

  /**
   * Has BIRD take its routes out of the kernel and end, and removes its files. Peers are not told that this node's subnets are
   * gone, because they aren't: they keep their routes for as long as a restart may take, in which they can be switched
   * over too. A BIRD that is dead is started to take away what it left.
   */
  async retire(): Promise<void> {
    try {
      await this.install(renderRelease(await readFile(this.paths.config, "utf8")));
      await this.reload();
      await this.ask("disable kernel4", "disable kernel6", "graceful restart");
    } catch (error) {
      if (!isAway(error)) throw error;
      await this.install(renderRemoval(this.#table));
      await this.start(false);
      await this.ask("down");
    }
    await this.#ended();
    await rm(this.paths.dir, { recursive: true });
  }

  /** Waits for BIRD to be gone: it answers "Shutdown requested" and then takes its routes away. */
  async #ended(): Promise<void> {
    const until = performance.now() + RUN_TIMEOUT_MS;
    while (performance.now() < until) {
      try {
        await this.ask("show status");
      } catch (error) {
        if (isAway(error)) return;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new BgpError("BGP_BIRD_FAILED", `BIRD did not end within ${RUN_TIMEOUT_MS} ms of being told to`);
  }

  async #run(args: readonly string[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      execFile(this.#program, args, { timeout: RUN_TIMEOUT_MS, env: {} }, (error, _stdout, stderr) => {
        if (error === null) return resolve();
        const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
        const said = stderr.trim().split("\n").at(-1) || error.message;
        reject(new BgpError(missing ? "BGP_NO_BIRD" : "BGP_BIRD_FAILED", said, error));
      });
    });
  }
}

export function isAway(error: unknown): boolean {
  return error instanceof BgpError && error.code === "BGP_BIRD_AWAY";
}
