// SPDX-License-Identifier: Apache-2.0
//
// A process for the crash tests: a service on the database in the directory named last on its command line, eight clients
// that allocate and release without end, and a line on stdout for each answer, written before the client goes on:
// "+ <container> <address>…" or "- <container>", and "! <container> <code>" for an error. Before a release is asked for,
// "? <container>" says that its outcome is open.
import { writeSync } from "node:fs";
import { parsePrefix } from "../../net/prefix.ts";
import { IpamError } from "../errors.ts";
import { IpamService } from "../service.ts";
import { Store } from "../store.ts";

// A file size limit (setrlimit(2)) is how the tests fill the disk; without a handler its signal ends the process.
process.on("SIGXFSZ", () => {});

const [run, dir] = process.argv.slice(-2) as [string, string];
const { store, snapshot } = await Store.open(dir);
const service = await IpamService.start(store, snapshot, {
  subnets: [parsePrefix("10.0.0.0/16"), parsePrefix("fd00::/64")],
  bootId: "test",
});

/** A write of less than PIPE_BUF bytes that either happened or did not, whenever the process is killed. */
function say(line: string): void {
  writeSync(1, `${line}\n`);
}

async function client(id: number): Promise<never> {
  for (let i = 0; ; i++) {
    const containerId = `${run}-${id}-${i}`;
    const attachment = { network: "pods", containerId, ifname: "eth0" };
    try {
      const { addresses } = await service.allocate({
        attachment,
        pod: undefined,
        netns: "/n",
        hostIfname: "",
        requestedAddresses: [],
        portMappings: [],
        withGateway: false,
        aliases: [],
      });
      say(`+ ${containerId} ${addresses.join(" ")}`);
      if (i % 3 !== 0) continue;
      say(`? ${containerId}`);
      await service.release(attachment);
      say(`- ${containerId}`);
    } catch (error) {
      say(`! ${containerId} ${error instanceof IpamError ? error.code : error}`);
      await new Promise((again) => setTimeout(again, 5));
    }
  }
}

say("ready");
await Promise.all(Array.from({ length: 8 }, (_, id) => client(id)));
