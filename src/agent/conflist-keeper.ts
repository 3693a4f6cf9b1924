// SPDX-License-Identifier: Apache-2.0
//
// Keeps the plugin and the conflist where runtimes look for them. The conflist is what makes a node Ready, so it comes last:
// behind the plugin, and not before the daemon can serve pods. From then on it stays, over restarts too: a runtime without
// one deletes no pods either.
import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { before, isOurs } from "../footprint/conflist.ts";
import { isMissing } from "../footprint/errors.ts";
import { placeText, sweepParts, unlinkIfThere } from "../footprint/place.ts";
import { type PluginFiles, pluginPaths } from "../footprint/plugin-files.ts";
import type { FootprintRecord } from "../footprint/record.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

/** Between looks that nothing asked for: a runtime that misses it refuses every pod. */
const INTERVAL_MS = 2_000;
/** Between tries to install a plugin that can't be: each copies all of it. */
const INSTALL_RETRY_MS = 30_000;
/** After the last of several changes. */
const SETTLE_MS = 20;
/** It names a socket that is root's alone; whoever runs plugins is root. */
const CONFLIST_MODE = 0o600;

export interface ConflistKeeperOptions {
  /** Where the plugin is installed; absent when somebody else does that. */
  readonly plugin?: { readonly directory: string; readonly files: PluginFiles } | undefined;
  /** Where the conflist is written; absent when somebody else does that. */
  readonly conflist?: { readonly directory: string; readonly name: string; readonly text: string } | undefined;
  /** What has to come first, in words; undefined once there is nothing. */
  readonly waitsFor: () => string | undefined;
  readonly record: FootprintRecord;
  readonly log: Log;
  /** Tells operators what somebody else does to the files: a word for it, and a sentence. */
  readonly tell?: (reason: string, message: string) => void;
}

export class ConflistKeeper {
  readonly #options: ConflistKeeperOptions;
  readonly #loop: Loop;
  #watched: { readonly directory: string; readonly watcher: FSWatcher } | undefined;
  #swept = false;
  /** When the next try is worth it, by performance.now(). */
  #installsAt = 0;
  #pluginProblem: string | undefined = "not looked at yet";
  #conflistProblem: string | undefined = "not looked at yet";
  /** It has been seen as it should be: whoever changes it afterwards is somebody else. */
  #isInPlace = false;
  /** What was told last, so that a standing state is one line and not one a look. */
  #told = new Map<string, string>();

  private constructor(options: ConflistKeeperOptions) {
    this.#options = options;
    this.#loop = new Loop(() => this.#pass(), {
      name: "plugin and conflist",
      settleMs: SETTLE_MS,
      intervalMs: INTERVAL_MS,
      retryMs: INTERVAL_MS,
      onError: (err) => options.log.error({ err }, "the plugin and the conflist could not be looked after"),
    });
  }

  /** Begins to look after both. */
  static start(options: ConflistKeeperOptions): ConflistKeeper {
    const keeper = new ConflistKeeper(options);
    keeper.#loop.request();
    return keeper;
  }

  /** Why the plugin is not in place, as of the last look. */
  get pluginProblem(): string | undefined {
    return this.#options.plugin === undefined ? undefined : this.#pluginProblem;
  }

  /** Why the conflist is not in place, as of the last look. */
  get conflistProblem(): string | undefined {
    return this.#options.conflist === undefined ? undefined : this.#conflistProblem;
  }

  /** Both stay where they are. */
  async stop(): Promise<void> {
    this.#watched?.watcher.close();
    await this.#loop.stop();
  }

  async #pass(): Promise<void> {
    await this.#sweep();
    const { plugin, conflist, log } = this.#options;
    if (plugin !== undefined && performance.now() >= this.#installsAt) {
      this.#pluginProblem = await problemOf(() => this.#keepPlugin(plugin));
      if (this.#pluginProblem !== undefined) this.#installsAt = performance.now() + INSTALL_RETRY_MS;
      this.#tell("plugin", this.#pluginProblem, (problem) => log.error({ problem }, "the plugin is not installed"));
    }
    if (conflist !== undefined) {
      this.#conflistProblem = await problemOf(() => this.#keepConflist(conflist));
      const { directory, name } = conflist;
      this.#tell("conflist", this.#conflistProblem, (problem) =>
        log.warn({ path: join(directory, name), problem }, "the conflist is not written yet"),
      );
    }
  }

  /** Once: nobody but this daemon, and those before it, places files there. */
  async #sweep(): Promise<void> {
    if (this.#swept) return;
    const { plugin, conflist, log } = this.#options;
    for (const place of [plugin, conflist]) {
      if (place === undefined) continue;
      const paths = await sweepParts(place.directory);
      if (paths.length > 0) log.info({ paths }, "files that a killed daemon had begun are removed");
    }
    this.#swept = true;
  }

  async #keepPlugin({ directory, files }: NonNullable<ConflistKeeperOptions["plugin"]>): Promise<void> {
    await this.#options.record.makeDirectory(directory);
    await this.#options.record.addFiles(pluginPaths(directory));
    const paths = await files.install();
    if (paths.length > 0) this.#options.log.info({ paths }, "the plugin is installed");
  }

  async #keepConflist({ directory, name, text }: NonNullable<ConflistKeeperOptions["conflist"]>): Promise<void> {
    await this.#options.record.makeDirectory(directory);
    await this.#watch(directory);
    const path = join(directory, name);
    const there = await readIfThere(path);
    if (there !== text) {
      // What an earlier daemon wrote is good enough until then.
      const missing = this.pluginProblem === undefined ? this.#options.waitsFor() : "the plugin is not installed";
      if (missing !== undefined) throw new Error(missing);
      await this.#options.record.addFiles([path]);
      await placeText(path, text, CONFLIST_MODE);
      this.#options.log.info({ path, replaced: there !== undefined }, "the conflist is written");
      if (this.#isInPlace) {
        const what = there === undefined ? "removed" : "replaced";
        this.#options.tell?.("ConflistRestored", `${path} was ${what} by something and is restored`);
      }
    }
    this.#isInPlace = true;
    await this.#removeFormer(path);
    this.#tellRivals(name, await readdir(directory));
  }

  /** Conflists of ours in places that an earlier configuration named: two of them would be two networks. */
  async #removeFormer(path: string): Promise<void> {
    const { record, log } = this.#options;
    const former = record.now.files.filter((file) => file.endsWith(".conflist") && file !== path);
    for (const file of former) {
      const text = await readIfThere(file);
      if (text !== undefined && isOurs(text) && (await unlinkIfThere(file))) {
        log.info({ path: file }, "the conflist in the place that it had before is removed");
      }
    }
    if (former.length > 0) await record.set({ files: record.now.files.filter((file) => !former.includes(file)) });
  }

  #tellRivals(name: string, names: readonly string[]): void {
    const rivals = before(name, names);
    this.#tell("rivals", rivals.length === 0 ? undefined : rivals.join(", "), () => {
      const fields = { rivals, directory: this.#options.conflist?.directory };
      const message = "runtimes take another network's configuration, which comes before flatnet's";
      this.#options.log.warn(fields, message);
      this.#options.tell?.("ConflistShadowed", `${message}: ${rivals.join(", ")} in ${fields.directory}`);
    });
  }

  /** A directory that was replaced by another one has to be watched anew, and nothing says so. */
  async #watch(directory: string): Promise<void> {
    const { dev, ino } = await stat(directory, { bigint: true });
    const identity = `${dev}:${ino}`;
    if (this.#watched?.directory === identity) return;
    this.#watched?.watcher.close();
    this.#watched = undefined;
    const watcher = watch(directory, { persistent: false }, () => this.#loop.request());
    // From then on it is looked at in intervals only.
    watcher.on("error", () => watcher.close());
    this.#watched = { directory: identity, watcher };
  }

  #tell(about: string, state: string | undefined, tell: (state: string) => void): void {
    if (this.#told.get(about) === state) return;
    if (state === undefined) this.#told.delete(about);
    else {
      this.#told.set(about, state);
      tell(state);
    }
  }
}

async function problemOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
