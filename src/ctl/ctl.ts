// SPDX-License-Identifier: Apache-2.0
//
// The operator's commands: `flatnetctl COMMAND …`. Each command is a module of its own, loaded when it is asked for.
import type { CtlWorld } from "./world.ts";

const USAGE = `usage: flatnetctl COMMAND [options]

  adopt      take over the addresses that another plugin gave out on this node
  ipam       this node's addresses: how many are left, who has which
  policy     which network policies this node enforces, and why a connection is allowed or denied
  routes     which way packets take to each other node's pods, and why they don't where they don't
  uninstall  take flatnet off this node, without a trace
  lab        a cluster of network namespaces on this machine, and the proof that its network is flat
`;

/** @returns the exit status; 2 for a command there is none of */
export async function runCtl(args: readonly string[], world: CtlWorld): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case "adopt":
      return (await import("./adopt.ts")).runAdopt(rest, world);
    case "ipam":
      return (await import("./ipam.ts")).runIpam(rest, world);
    case "policy":
      return (await import("./policy.ts")).runPolicy(rest, world);
    case "routes":
      return (await import("./routes.ts")).runRoutes(rest, world);
    case "uninstall":
      return (await import("./uninstall.ts")).runUninstall(rest, world);
    case "lab":
      return (await import("../lab/lab.ts")).runLab(rest, world);
    case "lab-host":
      return (await import("../lab/host.ts")).runLabHost(rest[0] ?? "", world.stdin, world.stdout);
    case undefined:
    case "help":
    case "--help":
    case "-h":
      world.stdout.write(USAGE);
      return command === undefined ? 2 : 0;
    default:
      world.stderr.write(`flatnetctl: there is no command ${JSON.stringify(command)}\n${USAGE}`);
      return 2;
  }
}
