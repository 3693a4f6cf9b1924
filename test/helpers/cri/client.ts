// SPDX-License-Identifier: Apache-2.0
//
// Speaks the Kubernetes container runtime interface, as kubelet does.

import { type Client, credentials, makeGenericClientConstructor, type ServiceError, status } from "@grpc/grpc-js";
import { loadSync, type ServiceDefinition } from "@grpc/proto-loader";

/** A call that the runtime refused. `message` is the runtime's own text, and `code` the gRPC status, such as "NOT_FOUND". */
export class CriError extends Error {
  override readonly name = "CriError";
  readonly code: string;
  constructor(method: string, cause: ServiceError) {
    super(`${method}: ${cause.details}`, { cause });
    this.code = status[cause.code] ?? String(cause.code);
  }
}

/** One port of one container. */
export interface SandboxPort {
  readonly protocol: "TCP" | "UDP" | "SCTP";
  readonly containerPort: number;
  /** 0 where no hostPort is asked for. */
  readonly hostPort: number;
  /** The node's address that it is on; all of them when missing. */
  readonly hostIp?: string;
}

/** What a sandbox is asked for with (PodSandboxConfig), as far as the tests care. */
export interface SandboxConfig {
  readonly metadata: { readonly name: string; readonly uid: string; readonly namespace: string };
  readonly hostname: string;
  readonly dnsConfig: { readonly servers: readonly string[] };
  readonly linux: { readonly cgroupParent: string; readonly securityContext?: object };
  /** Where the containers' logs are, in directories of the runtime's mount namespace. */
  readonly logDirectory?: string;
  readonly portMappings?: readonly SandboxPort[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface SandboxStatus {
  readonly id: string;
  readonly state: "SANDBOX_READY" | "SANDBOX_NOTREADY";
  /** All its addresses, the one the runtime prefers first. Empty for a sandbox that is stopped. */
  readonly addresses: readonly string[];
  /** Path of its network namespace in the runtime's mount namespace. */
  readonly netns: string;
  /** Its process, in the runtime's PID namespace; 0 when it has ended. */
  readonly pid: number;
}

/** "RuntimeReady" or "NetworkReady", and whether it is so. */
export interface RuntimeCondition {
  readonly type: string;
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
}

/** A runtime at the other end of a unix socket. Every call has a deadline of 60 s and fails with CriError. */
export interface CriClient {
  version(): Promise<{ runtimeName: string; runtimeVersion: string; runtimeApiVersion: string }>;
  conditions(): Promise<RuntimeCondition[]>;
  hasImage(image: string): Promise<boolean>;
  /** Returns the new sandbox's id. */
  runPodSandbox(config: SandboxConfig): Promise<string>;
  podSandboxStatus(id: string): Promise<SandboxStatus>;
  stopPodSandbox(id: string): Promise<void>;
  removePodSandbox(id: string): Promise<void>;
  listPodSandboxes(): Promise<string[]>;
  /** Creates and starts a container of `image` in the sandbox; `more` is further fields of ContainerConfig. Returns its id. */
  startContainer(sandboxId: string, name: string, image: string, config: SandboxConfig, more?: object): Promise<string>;
  /** SIGTERM, and SIGKILL when it hasn't ended after ten seconds. */
  stopContainer(id: string): Promise<void>;
  /** "CONTAINER_RUNNING", … */
  containerState(id: string): Promise<string>;
  close(): void;
}

const DEADLINE_MS = 60_000;

const services = loadSync(new URL("../../proto/cri.proto", import.meta.url).pathname, {
  enums: String,
  longs: Number,
  defaults: true,
});
const runtimeService = services["runtime.v1.RuntimeService"] as ServiceDefinition;
const imageService = services["runtime.v1.ImageService"] as ServiceDefinition;

/** Connects at the first call, and again whenever the runtime was away. */
export function createCriClient(socket: string): CriClient {
  const Runtime = makeGenericClientConstructor(runtimeService, "RuntimeService");
  const client = new Runtime(`unix:${socket}`, credentials.createInsecure(), {
    // A runtime that is just starting is tried again soon, not after the usual second.
    "grpc.initial_reconnect_backoff_ms": 50,
  });
  const runtime = <Response>(method: string, request: object = {}) =>
    call<Response>(client, runtimeService, method, request);

  return {
    version: () => runtime("Version"),
    conditions: async () => {
      const { status } = await runtime<{ status: { conditions: RuntimeCondition[] } }>("Status");
      return status.conditions;
    },
    hasImage: async (image) => {
      const answer = await call<{ image: object | null }>(client, imageService, "ImageStatus", { image: { image } });
      return answer.image !== null;
    },
    runPodSandbox: async (config) => {
      const { podSandboxId } = await runtime<{ podSandboxId: string }>("RunPodSandbox", { config });
      return podSandboxId;
    },
    podSandboxStatus: async (podSandboxId) =>
      toSandboxStatus(await runtime<PodSandboxStatusResponse>("PodSandboxStatus", { podSandboxId, verbose: true })),
    stopPodSandbox: async (podSandboxId) => {
      await runtime("StopPodSandbox", { podSandboxId });
    },
    removePodSandbox: async (podSandboxId) => {
      await runtime("RemovePodSandbox", { podSandboxId });
    },
    listPodSandboxes: async () => {
      const { items } = await runtime<{ items: { id: string }[] }>("ListPodSandbox");
      return items.map((sandbox) => sandbox.id);
    },
    startContainer: async (podSandboxId, name, image, sandboxConfig, more = {}) => {
      const config = { metadata: { name }, image: { image }, ...more };
      const created = { podSandboxId, config, sandboxConfig };
      const { containerId } = await runtime<{ containerId: string }>("CreateContainer", created);
      await runtime("StartContainer", { containerId });
      return containerId;
    },
    stopContainer: async (containerId) => {
      await runtime("StopContainer", { containerId, timeout: 10 });
    },
    containerState: async (containerId) => {
      const { status } = await runtime<{ status: { state: string } }>("ContainerStatus", { containerId });
      return status.state;
    },
    close: () => client.close(),
  };
}

interface PodSandboxStatusResponse {
  status: {
    id: string;
    state: SandboxStatus["state"];
    network: { ip: string; additionalIps: { ip: string }[] } | null;
  };
  info: Record<string, string>;
}

/** What containerd adds to the status of a sandbox: its process, and its OCI runtime configuration. */
interface VerboseInfo {
  pid?: number;
  runtimeSpec?: { linux?: { namespaces?: { type: string; path?: string }[] } };
}

function toSandboxStatus({ status, info }: PodSandboxStatusResponse): SandboxStatus {
  const addresses = [status.network?.ip ?? "", ...(status.network?.additionalIps ?? []).map(({ ip }) => ip)];
  const verbose: VerboseInfo = JSON.parse(info["info"] ?? "{}");
  return {
    id: status.id,
    state: status.state,
    addresses: addresses.filter((address) => address !== ""),
    pid: verbose.pid ?? 0,
    netns: verbose.runtimeSpec?.linux?.namespaces?.find(({ type }) => type === "network")?.path ?? "",
  };
}

function call<Response>(
  client: Client,
  service: ServiceDefinition,
  method: string,
  request: object,
): Promise<Response> {
  const definition = service[method];
  if (definition === undefined) throw new TypeError(`cri.proto has no method ${method}`);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      request,
      { deadline: Date.now() + DEADLINE_MS },
      (error, response) => (error === null ? resolve(response as Response) : reject(new CriError(method, error))),
    );
  });
}
