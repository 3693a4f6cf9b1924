// SPDX-License-Identifier: Apache-2.0
//
// Steps at which the torture test ends the program, by SIGKILL, to see what is left. A step is named where it is taken:
//
//   globalThis.faultPoint?.("plugin.link-made");
//
// The release build takes every such call out, name and all (scripts/build.ts); `scripts/build.ts --faults` leaves them in
// and arms them (src/bin/testing/faults.ts). It is a global and not an import because that is what both bundlers can take
// out; in tests that run from source nobody is listening.

/** Steps of the plugin, in the order of a pod's life. A name says what has just been done. */
export const PLUGIN_FAULTS = [
  "plugin.add-begun",
  "plugin.allocated",
  "plugin.link-made",
  "plugin.sysctls-set",
  "plugin.pod-end-made",
  "plugin.own-table-made",
  "plugin.host-end-made",
  "plugin.step-undone",
  "plugin.rules-removed",
  "plugin.detached",
  "plugin.link-removed",
  "plugin.note-written",
  "plugin.note-renamed",
  "plugin.note-synced",
  "plugin.garbage-listed",
  "plugin.garbage-unlinked",
  "plugin.garbage-released",
  "plugin.verb-done",
  "plugin.result-printed",
] as const;

/** Steps of the daemon: its start, its answers, what it does by itself, its end. */
export const DAEMON_FAULTS = [
  "daemon.socket-free",
  "daemon.database-directory-made",
  "daemon.database-opened",
  "daemon.records-read",
  "daemon.nft-transaction-done",
  "daemon.service-started",
  "daemon.journal-swept",
  "daemon.journal-kept",
  "daemon.forwarding-on",
  "daemon.routes-synced",
  "daemon.socket-bound",
  "daemon.socket-in-place",
  "daemon.serving",
  "daemon.change-recorded",
  "daemon.file-written",
  "daemon.file-placed",
  "daemon.plugin-copied",
  "daemon.plugin-placed",
  "daemon.batch-begun",
  "daemon.batch-written",
  "daemon.allocation-planned",
  "daemon.allocation-durable",
  "daemon.allocation-in-effect",
  "daemon.allocation-answered",
  "daemon.links-doomed",
  "daemon.link-removed",
  "daemon.release-begun",
  "daemon.ports-cleared",
  "daemon.release-durable",
  "daemon.release-answered",
  "daemon.note-released",
  "daemon.note-removed",
  "daemon.history-pruned",
  "daemon.write-failed",
  "daemon.database-closed",
  "daemon.database-reopened",
  "daemon.recovered",
  "daemon.retire-decided",
  "daemon.retired",
  "daemon.host-end-repaired",
  "daemon.pod-end-repaired",
  "daemon.stop-begun",
  "daemon.part-stopped",
] as const;

export type FaultPoint = (typeof PLUGIN_FAULTS)[number] | (typeof DAEMON_FAULTS)[number];

declare global {
  /** Tells that a step has been taken; not there but in the fault build. */
  // A property of globalThis is only what `var` declares.
  var faultPoint: ((name: FaultPoint) => void) | undefined;
}
