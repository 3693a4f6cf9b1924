// SPDX-License-Identifier: Apache-2.0
//
// The address service by itself, every allocation on disk before it is answered: in its own process, and over gRPC.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, credentials } from "@grpc/grpc-js";
import { AllocateRequest, AllocateResponse } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import type { AllocationRequest } from "../../src/ipam/plans.ts";
import { IpamService } from "../../src/ipam/service.ts";
import { Store } from "../../src/ipam/store.ts";
import { parsePrefix } from "../../src/net/prefix.ts";
import type { Bench, Case } from "../bench.ts";
import { DirectoryStore } from "../directory-store.ts";
import type { Row } from "../samples.ts";

/** Allocations in one sample, and as many releases behind it that don't count. */
const COUNT = 1000;
/** The peer looks through all of its files each time, as host-local does: fewer are enough for its rate. */
const PEER_COUNT = 200;
/** A sample takes about a second: this many fewer of them. */
const SHARE = 4;
const SUBNET = parsePrefix("10.92.0.0/16");
const PEER_NAME = "a file an address, synced";

/** Addresses a second of `one`, called COUNT times with so many in flight. */
async function rateOf(count: number, inFlight: number, one: (i: number) => Promise<unknown>): Promise<number> {
  const waiting = Array.from({ length: count }, (_, i) => i).values();
  const started = performance.now();
  const lane = async () => {
    for (const i of waiting) await one(i);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  return (count * 1000) / (performance.now() - started);
}

async function compare(
  bench: Bench,
  what: string,
  ours: { allocate(i: number): Promise<unknown>; release(i: number): Promise<unknown> },
): Promise<Row[]> {
  const directory = mkdtempSync(join(tmpdir(), "flatnet-bench-"));
  bench.cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const peer = new DirectoryStore(directory, SUBNET);
  const rows: Row[] = [];
  for (const inFlight of [1, 32]) {
    const samples: { ours: number[]; peer: number[] } = { ours: [], peer: [] };
    for (let run = -1; run < bench.rounds(SHARE); run++) {
      const own = await rateOf(COUNT, inFlight, (i) => ours.allocate(i));
      await rateOf(COUNT, 32, (i) => ours.release(i));
      // One at a time, however many wait: it holds a lock.
      const other = await rateOf(PEER_COUNT, 1, async (i) => peer.allocate(`c${i}`));
      for (let i = 0; i < PEER_COUNT; i++) peer.release(`c${i}`);
      if (run < 0) continue;
      samples.ours.push(own);
      samples.peer.push(other);
    }
    const who = inFlight === 1 ? "one client" : `${inFlight} in flight`;
    rows.push({
      what: `${what}, ${who}: rate`,
      unit: "/s",
      ...samples,
      peerName: PEER_NAME,
    });
  }
  return rows;
}

const attachmentOf = (i: number) => ({ network: "bench", containerId: `c${i}`, ifname: "eth0" });

const EMPTY = AllocateRequest.decode(new Uint8Array());

export const ipamCases: readonly Case[] = [
  {
    id: "ipam",
    title: "Allocations of the address service, in its own process",
    async run(bench): Promise<Row[]> {
      const directory = mkdtempSync(join(tmpdir(), "flatnet-bench-"));
      bench.cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
      const { store, snapshot } = await Store.open(directory);
      const options = { subnets: [SUBNET], bootId: "bench", cooldownMs: 0 };
      const service = await IpamService.start(store, snapshot, options);
      bench.cleanup.add(() => service.close());
      const request = (i: number): AllocationRequest => ({
        attachment: attachmentOf(i),
        pod: { namespace: "default", name: `pod-${i}`, uid: `uid-${i}` },
        netns: `/run/netns/pod-${i}`,
        hostIfname: `flbench${i}`,
        requestedAddresses: [],
        portMappings: [],
        aliases: [],
        withGateway: false,
      });
      const ours = {
        allocate: (i: number) => service.allocate(request(i)),
        release: (i: number) => service.release(attachmentOf(i)),
      };
      return compare(bench, "allocate", ours);
    },
  },
  {
    id: "ipam-grpc",
    title: "Allocations of the daemon over its socket, with the client in this process",
    async run(bench): Promise<Row[]> {
      const { node } = await bench.node([4]);
      const client = new Client(`unix:${node.socket}`, credentials.createInsecure());
      bench.cleanup.add(() => client.close());
      const call = (method: string, message: object) =>
        new Promise<void>((resolve, reject) => {
          const path = `/flatnet.ipam.v1.IpamService/${method}`;
          const encode = (value: object) => Buffer.from(AllocateRequest.encode({ ...EMPTY, ...value }).finish());
          client.makeUnaryRequest(path, encode, AllocateResponse.decode, message, (error) =>
            error ? reject(error) : resolve(),
          );
        });
      const ours = {
        allocate: (i: number) =>
          call("Allocate", { attachment: attachmentOf(i), netns: "/run/netns/x", hostIfname: `flbench${i}` }),
        // Its request has the attachment in the same place.
        release: (i: number) => call("Release", { attachment: attachmentOf(i) }),
      };
      return compare(bench, "allocate over gRPC", ours);
    },
  },
];
