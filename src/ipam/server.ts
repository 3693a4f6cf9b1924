// SPDX-License-Identifier: Apache-2.0
//
// The gRPC edge: parse, call the service, encode. No decision is made here.
import { setImmediate } from "node:timers/promises";
import {
  type handleUnaryCall,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type * as wire from "../gen/flatnet/ipam/v1/ipam.ts";
import { IpamServiceDefinition, type MessageFns } from "../gen/flatnet/ipam/v1/ipam.ts";
import type { Attachment } from "../net/names.ts";
import type { RestingAddress, SubnetCounts } from "./address-space.ts";
import { IpamError } from "./errors.ts";
import type { Tenure } from "./history.ts";
import type { AllocationRequest } from "./plans.ts";
import { type PodWishes, refusedWish, withWish } from "./pod-wishes.ts";
import type { AllocationRecord, Bandwidth } from "./records.ts";
import type { KernelMark } from "./recovered.ts";
import { addReflection } from "./reflection.ts";
import {
  parseAdoptRequest,
  parseAllocateRequest,
  parseAttachment,
  parseGetAllocationRequest,
  parseGetHistoryRequest,
  parseReleaseRequest,
  parseUndoAdoptionRequest,
} from "./requests.ts";
import { toStatus } from "./rpc-errors.ts";
import type { IpamService } from "./service.ts";
import { claimSocket } from "./socket-claim.ts";

/** Where the edge tells what happened; pino's shape. */
export interface IpamLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ServeIpamOptions {
  readonly service: IpamService;
  /** MTU in bytes for both ends of a link made now. */
  readonly mtu: () => number;
  /** What pods wish beside what their runtime asks for; missing: nothing. */
  readonly wishes?: PodWishes | undefined;
  /** Whether the routes to the other nodes have been in order once. */
  readonly routesSynced: () => boolean;
  /** Told why when a request finds no address left. Must not wait. */
  readonly onExhausted?: (reason: string) => void;
  /** What the kernel has of the node's attachments, for CheckConsistency. */
  readonly kernelMarks: () => Promise<readonly KernelMark[]>;
  /** The way to each subnet of each node, as it was seen last. */
  readonly nodeRoutes: () => Promise<readonly wire.NodeRoute[]>;
  /** Returns once the attachment has no link; one that has none is success. */
  readonly removeLink: (attachment: Attachment) => Promise<void>;
  /** At most 107 bytes; its directory must exist. */
  readonly socketPath: string;
  /** What else is served on the socket. */
  readonly further?: readonly FurtherService[];
  readonly log: IpamLog;
  /** Told of each call that was answered: its gRPC status code, and how long it took. */
  readonly onCall?: (method: string, code: number, seconds: number) => void;
  /** How long calls under way may take when closing, in milliseconds. */
  readonly drainMs?: number;
}

/** A service beside the IPAM's, described by generated code, whose methods are questions. */
export interface FurtherService {
  readonly definition: GeneratedService;
  /** By the name of the definition's field; what they throw is an IpamError, or a bug. */
  readonly methods: Readonly<Record<string, (message: never) => Promise<unknown>>>;
}

/** A service as ts-proto describes it. */
export interface GeneratedService {
  readonly fullName: string;
  readonly methods: Readonly<
    Record<
      string,
      {
        readonly name: string;
        readonly requestType: unknown;
        readonly requestStream: boolean;
        readonly responseType: unknown;
        readonly responseStream: boolean;
      }
    >
  >;
}

export interface IpamServer {
  /** Takes the socket away, lets calls under way end, and stops. The service is the caller's to close, afterwards. */
  close(): Promise<void>;
}

/** Requests are a few hundred bytes; more is not from a plugin of ours. */
const REQUEST_LIMIT = 128 * 1024;

const DEFAULT_DRAIN_MS = 5_000;

/**
 * Serves on a unix socket that only root can open, from the moment it is there. Replaces the socket of a dead daemon.
 * @throws IpamError IPAM_SOCKET when somebody answers on the path already, or it is not a socket
 */
export async function serveIpam(options: ServeIpamOptions): Promise<IpamServer> {
  const { service, mtu, routesSynced, socketPath, log } = options;
  let stopping = false;
  // Channelz stays on: without it grpc-js does not track sessions, and forceShutdown ends none (seen in 1.14).
  const server = new Server({ "grpc.max_receive_message_length": REQUEST_LIMIT });

  /** One method: the handler may throw, and whatever it throws becomes a status. */
  const unary = <Request, Response>(
    method: string,
    handle: (request: Request, trace: Trace, isAbandoned: () => Promise<boolean>) => Promise<Response>,
  ): handleUnaryCall<Request, Response> => {
    return (call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
      const trace = traceOf(call.metadata);
      const started = performance.now();
      const answered = (code: number) => options.onCall?.(method, code, (performance.now() - started) / 1000);
      const answer = stopping
        ? Promise.reject(new IpamError("IPAM_CLOSED", "the daemon is stopping"))
        : handle(call.request, trace, () => isCancelled(call));
      answer.then(
        (response) => {
          answered(status.OK);
          callback(null, response);
        },
        (err: unknown) => {
          const rpc = toStatus(err);
          if (rpc.code === status.INTERNAL) log.error({ err, method, ...trace }, "a request failed");
          else if (rpc.code === status.CANCELLED)
            log.warn({ method, reason: rpc.details, ...trace }, "a caller didn't wait for its answer");
          else if (rpc.code === status.RESOURCE_EXHAUSTED) {
            log.warn({ method, reason: rpc.details, ...trace }, "no address is left");
            options.onExhausted?.(rpc.details);
          }
          answered(rpc.code);
          callback(rpc);
        },
      );
    };
  };

  /** What the runtime asks for, and beside it what the pod wishes. */
  const allocate = async (asked: AllocationRequest, isAbandoned: () => Promise<boolean>) => {
    const wish = await options.wishes?.of(asked);
    const { request, sources } = withWish(asked, wish);
    try {
      return { request, mtu: wish?.mtu, given: await service.allocate(request, isAbandoned) };
    } catch (error) {
      const refused = refusedWish(error, sources);
      if (refused !== undefined) options.wishes?.refused(asked, refused.message);
      throw refused ?? error;
    }
  };

  const release = async (attachment: Attachment, cause: string, trace: Trace): Promise<string[]> => {
    const { addresses } = await service.release(attachment, undefined, cause);
    // A repeated DEL is no event.
    if (addresses.length > 0) log.info({ ...attachment, addresses, ...trace }, "addresses taken back");
    globalThis.faultPoint?.("daemon.release-answered");
    return [...addresses];
  };

  server.addService(toServiceDefinition(), {
    allocate: unary(
      "Allocate",
      async (message: wire.AllocateRequest, trace, isAbandoned): Promise<wire.AllocateResponse> => {
        const { request, mtu: wishedMtu, given } = await allocate(parseAllocateRequest(message), isAbandoned);
        const { addresses, subnets, gateways, existed, restCutShort, takenFrom, pool, bandwidth } = given;
        if (restCutShort) {
          const fields = { ...request.attachment, addresses, gateways, requested: request.requestedAddresses };
          log.warn(
            { ...fields, ...trace },
            "an address is used again before its rest was over: no other is left, or it was requested",
          );
        }
        if (takenFrom.length > 0) {
          const fields = { ...request.attachment, addresses, gateways, takenFrom, ...trace };
          log.warn(fields, "an address is given away that was kept for its owner: no other is left");
        }
        const { namespace = "", name = "" } = request.pod ?? {};
        const pod = request.pod === undefined ? {} : { pod: `${namespace}/${name}` };
        log.info({ ...request.attachment, ...pod, addresses, existed, ...trace }, "addresses given");
        globalThis.faultPoint?.("daemon.allocation-answered");
        const lists = { addresses: [...addresses], subnets: [...subnets], gateways: [...gateways] };
        return { ...lists, mtu: wishedMtu ?? mtu(), existed, pool, bandwidth: toBandwidth(bandwidth) };
      },
    ),
    release: unary("Release", async (message: wire.ReleaseRequest, trace): Promise<wire.ReleaseResponse> => {
      const { attachment, cause } = parseReleaseRequest(message);
      return { addresses: await release(attachment, cause, trace) };
    }),
    detach: unary("Detach", async (message: wire.DetachRequest, trace): Promise<wire.DetachResponse> => {
      const attachment = parseAttachment(message.attachment);
      await options.removeLink(attachment);
      globalThis.faultPoint?.("daemon.link-removed");
      return { addresses: await release(attachment, "del", trace) };
    }),
    getAllocation: unary(
      "GetAllocation",
      async (message: wire.GetAllocationRequest): Promise<wire.GetAllocationResponse> => {
        const { record, problems } = await service.check(parseGetAllocationRequest(message));
        return { allocation: toAllocation(record), problems: [...problems] };
      },
    ),
    status: unary("Status", async (): Promise<wire.StatusResponse> => {
      const { subnets, strays } = await service.counts();
      return { routesSynced: routesSynced(), subnets: subnets.map(toSubnet), strayAddresses: strays.size };
    }),
    listAllocations: unary("ListAllocations", async (): Promise<wire.ListAllocationsResponse> => {
      const { allocations, subnets, strays } = await service.list();
      return {
        allocations: allocations.map(toAllocation),
        subnets: subnets.map(toSubnet),
        strayAddresses: strays.size,
      };
    }),
    listResting: unary("ListResting", async (): Promise<wire.ListRestingResponse> => {
      return { resting: (await service.resting()).map(toResting), keptBack: service.keptBack };
    }),
    checkConsistency: unary("CheckConsistency", async (): Promise<wire.CheckConsistencyResponse> => {
      const { findings, ...counts } = await service.consistency(options.kernelMarks);
      return { ...counts, findings: findings.map((finding) => ({ ...finding })) };
    }),
    listNodeRoutes: unary("ListNodeRoutes", async (): Promise<wire.ListNodeRoutesResponse> => {
      return { routes: [...(await options.nodeRoutes())] };
    }),
    getHistory: unary("GetHistory", async (message: wire.GetHistoryRequest): Promise<wire.GetHistoryResponse> => {
      const { tenures, next } = await service.history(parseGetHistoryRequest(message));
      return { tenures: tenures.map(toTenure), nextPageToken: next ?? "" };
    }),
    adopt: unary("Adopt", async (message: wire.AdoptRequest, trace): Promise<wire.AdoptResponse> => {
      const request = parseAdoptRequest(message);
      const existed = await service.adopt(request);
      const { attachment, addresses, adoption } = request;
      if (!existed) log.info({ ...attachment, addresses, adoption, ...trace }, "addresses taken over");
      return { existed };
    }),
    undoAdoption: unary(
      "UndoAdoption",
      async (message: wire.UndoAdoptionRequest, trace): Promise<wire.UndoAdoptionResponse> => {
        const id = parseUndoAdoptionRequest(message);
        const released = await service.undoAdoption(id);
        const addresses = released.flatMap((record) => record.addresses);
        if (addresses.length > 0) log.info({ adoption: id, addresses, ...trace }, "adoption undone");
        return { released: released.map(toAllocation) };
      },
    ),
  } satisfies UntypedServiceImplementation);

  for (const { definition, methods } of options.further ?? []) {
    const handlers = Object.entries(methods).map(([key, handle]) => {
      return [key, unary(definition.methods[key]?.name ?? key, handle as (message: unknown) => Promise<unknown>)];
    });
    server.addService(toServiceDefinition(definition), Object.fromEntries(handlers));
  }
  addReflection(server);

  const claim = await claimSocket(
    socketPath,
    (path) =>
      new Promise((bound, failed) => {
        server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
          error ? failed(error) : bound(),
        );
      }),
  ).catch((error: unknown) => {
    server.forceShutdown();
    throw error;
  });

  let closing: Promise<void> | undefined;
  const close = async () => {
    stopping = true;
    // First, so that who comes now finds nobody and waits for the next daemon.
    await claim.release();
    await new Promise<void>((closed) => {
      const force = setTimeout(() => {
        log.warn(
          { drainMs: options.drainMs ?? DEFAULT_DRAIN_MS },
          "calls under way did not end in time; they are cut off",
        );
        server.forceShutdown();
        closed();
      }, options.drainMs ?? DEFAULT_DRAIN_MS);
      server.tryShutdown(() => {
        clearTimeout(force);
        closed();
      });
    });
  };
  return { close: () => (closing ??= close()) };
}

/** Turns of the event loop in which the end of a connection, that came with the request, is heard: three were seen. */
const HEARING_TURNS = 8;

/**
 * Whether nobody waits for the answer any more. A daemon that was held up finds the caller's end behind its request in the socket,
 * and may be done before it has read that far.
 */
async function isCancelled(call: ServerUnaryCall<unknown, unknown>): Promise<boolean> {
  for (let turn = 0; turn < HEARING_TURNS && !call.cancelled; turn++) await setImmediate();
  return call.cancelled;
}

/** What ties a log line to the runtime's call. */
interface Trace {
  readonly traceparent?: string;
}

/** `traceparent` of the call's metadata (W3C Trace Context), if it is one: anybody may write anything there. */
function traceOf(metadata: Metadata): Trace {
  const [value] = metadata.get("traceparent");
  const good = typeof value === "string" && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(value);
  return good ? { traceparent: value } : {};
}

function toAllocation(record: AllocationRecord): wire.Allocation {
  return {
    attachment: record.attachment,
    pod: record.pod,
    netns: record.netns,
    hostIfname: record.hostIfname,
    addresses: [...record.addresses],
    allocatedAtMs: BigInt(record.allocatedAtMs),
    portMappings: record.portMappings.map((mapping) => ({ ...mapping })),
    aliases: [...record.aliases],
    pool: record.pool ?? "",
    stickyOwner: record.sticky?.owner ?? "",
    adoption: record.adoption,
    bandwidth: toBandwidth(record.bandwidth),
  };
}

function toBandwidth(bandwidth: Bandwidth | undefined): wire.Bandwidth | undefined {
  if (bandwidth === undefined) return undefined;
  return { ingressRate: BigInt(bandwidth.ingressRate), egressRate: BigInt(bandwidth.egressRate) };
}

function toSubnet({ pools, ...counts }: SubnetCounts): wire.Subnet {
  return { ...counts, pools: pools.map((pool) => ({ ...pool })) };
}

function toResting({ address, releasedAtMs, restsUntilMs, owner = "" }: RestingAddress): wire.RestingAddress {
  return { address, releasedAtMs: BigInt(releasedAtMs), restsUntilMs: BigInt(restsUntilMs), keptFor: owner };
}

function toTenure({ address, attachment, pod, allocatedAtMs, releasedAtMs, cause }: Tenure): wire.Tenure {
  const times = { allocatedAtMs: BigInt(allocatedAtMs), releasedAtMs: BigInt(releasedAtMs ?? 0) };
  return { address, attachment, pod, ...times, cause };
}

/** The generated description of the service in the form grpc-js takes, for servers and for clients. */
export function toServiceDefinition(service: GeneratedService = IpamServiceDefinition): ServiceDefinition {
  const { fullName, methods } = service;
  const definition: Record<string, ServiceDefinition[string]> = {};
  for (const [key, method] of Object.entries(methods)) {
    definition[key] = {
      path: `/${fullName}/${method.name}`,
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      ...codec("request", method.requestType as MessageFns<unknown>),
      ...codec("response", method.responseType as MessageFns<unknown>),
    } as ServiceDefinition[string];
  }
  return definition;
}

function codec<Side extends "request" | "response">(side: Side, type: MessageFns<unknown>) {
  return {
    [`${side}Serialize`]: (value: unknown) => Buffer.from(type.encode(value).finish()),
    [`${side}Deserialize`]: (bytes: Buffer) => type.decode(bytes),
  };
}
