// SPDX-License-Identifier: Apache-2.0
//
// The daemon's state, held so that no daemon has it: the lock of its database is what two daemons are kept apart by.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { IpamError } from "../ipam/errors.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import { refuseWhenTaken } from "../ipam/socket-claim.ts";
import { DATABASE_NAME, type OpenedStore, Store, StoreError } from "../ipam/store.ts";
import { findHolders } from "../sys/lock-holder.ts";
import { CtlError } from "./errors.ts";

/** How long a daemon that is told to end may take: its calls under way, and BIRD's configuration. */
const END_MS = 30_000;
const LOOK_MS = 100;

export interface StateClaim {
  /** Whether there is a state directory at all. */
  readonly wasThere: boolean;
  /** What is in the database; nothing when it can't be read. */
  readonly records: readonly AllocationRecord[];
  /** May be called again. */
  release(): Promise<void>;
}

export interface ClaimOptions {
  readonly stateDir: string;
  readonly socket: string;
  /** Whether a daemon that has it is ended. */
  readonly stopDaemon: boolean;
  readonly say: (line: string) => void;
}

/** @throws CtlError CTL_REFUSED when a daemon has it, or the socket */
export async function claimState({ stateDir, socket, stopDaemon, say }: ClaimOptions): Promise<StateClaim> {
  const wasThere = await isThere(stateDir);
  const claim = (await isThere(join(stateDir, DATABASE_NAME)))
    ? await claimDatabase(stateDir, stopDaemon, say)
    : { records: [], release: async () => {} };
  try {
    await refuseWhenTaken(socket);
  } catch (error) {
    await claim.release();
    if (!(error instanceof IpamError)) throw error;
    throw new CtlError("CTL_REFUSED", `the daemon of another state directory may run: ${error.message}`, error);
  }
  return { wasThere, ...claim };
}

async function claimDatabase(
  stateDir: string,
  stopDaemon: boolean,
  say: (line: string) => void,
): Promise<Omit<StateClaim, "wasThere">> {
  try {
    return held(await Store.open(stateDir));
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (error.code !== "STORE_LOCKED") {
      say(`records: they can't be read, and go unread: ${error.message}`);
      return { records: [], release: async () => {} };
    }
    if (!stopDaemon) {
      throw new CtlError("CTL_REFUSED", `a daemon still runs: ${error.message}; end it, or --stop-daemon`, error);
    }
    return held(await endHolder(stateDir, error, say));
  }
}

async function endHolder(stateDir: string, locked: StoreError, say: (line: string) => void): Promise<OpenedStore> {
  const [pid] = await findHolders(join(stateDir, DATABASE_NAME, "LOCK"));
  if (pid === undefined) throw new CtlError("CTL_REFUSED", `the daemon can't be ended: ${locked.message}`, locked);
  process.kill(pid, "SIGTERM");
  const until = performance.now() + END_MS;
  for (;;) {
    await sleep(LOOK_MS);
    try {
      const opened = await Store.open(stateDir);
      say(`daemon: process ${pid} is ended`);
      return opened;
    } catch (error) {
      const waits = error instanceof StoreError && error.code === "STORE_LOCKED" && performance.now() < until;
      if (!waits) throw new CtlError("CTL_REFUSED", `the daemon did not end: ${(error as Error).message}`, error);
    }
  }
}

function held({ store, snapshot }: OpenedStore): Omit<StateClaim, "wasThere"> {
  let released: Promise<void> | undefined;
  return {
    records: [...snapshot.allocations.values()],
    release: () => (released ??= store.close()),
  };
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
