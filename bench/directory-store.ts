// SPDX-License-Identifier: Apache-2.0
//
// The peer of the address store: one file an address, as host-local keeps them (a lock, a walk over all files to see whether the
// container has one, the next address behind the last one, a file made exclusively), with what it leaves out: the file and
// its directory are synced before the address is spoken of.
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { formatAddress, parseAddress } from "../src/net/address.ts";
import { addressAt, type Prefix } from "../src/net/prefix.ts";

export class DirectoryStore {
  readonly #directory: string;
  readonly #prefix: Prefix;
  #last = 0n;

  constructor(directory: string, prefix: Prefix) {
    this.#directory = directory;
    this.#prefix = prefix;
    mkdirSync(directory, { recursive: true });
  }

  /** @returns the address in canonical text */
  allocate(containerId: string): string {
    const held = this.#find(containerId);
    if (held !== undefined) return held;
    for (;;) {
      this.#last++;
      const address = formatAddress(addressAt(this.#prefix, this.#last));
      if (this.#write(address, containerId)) return address;
    }
  }

  release(containerId: string): void {
    const address = this.#find(containerId);
    if (address === undefined) return;
    unlinkSync(join(this.#directory, address));
    this.#syncDirectory();
  }

  #find(containerId: string): string | undefined {
    return readdirSync(this.#directory).find(
      (name) => readFileSync(join(this.#directory, name), "utf8") === containerId && parseAddress(name),
    );
  }

  #write(address: string, containerId: string): boolean {
    let fd: number;
    try {
      fd = openSync(join(this.#directory, address), "wx", 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    }
    writeSync(fd, containerId);
    fsyncSync(fd);
    closeSync(fd);
    this.#syncDirectory();
    return true;
  }

  #syncDirectory(): void {
    const fd = openSync(this.#directory, "r");
    fsyncSync(fd);
    closeSync(fd);
  }
}
