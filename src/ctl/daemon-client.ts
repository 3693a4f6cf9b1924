// SPDX-License-Identifier: Apache-2.0
//
// The daemon on this node, asked over its socket. What goes wrong on the way is told in words for people.
import { connect } from "node:net";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { IpamServiceDefinition, type MessageFns } from "../gen/flatnet/ipam/v1/ipam.ts";
import { CtlError } from "./errors.ts";

/** Where the daemon listens unless it is told otherwise. */
export const DEFAULT_SOCKET = "/run/flatnet/flatnetd.sock";

/** How long an answer may take: a daemon that hangs should not hang a person too. */
const DEADLINE_MS = 30_000;

/** A method of the generated service definition. */
interface Method<Request, Response> {
  readonly name: string;
  readonly requestType: MessageFns<Request>;
  readonly responseType: MessageFns<Response>;
}

export class DaemonClient {
  readonly #client: Client;
  readonly #socket: string;

  private constructor(client: Client, socket: string) {
    this.#client = client;
    this.#socket = socket;
  }

  /** @throws CtlError CTL_UNREACHABLE, saying what is wrong with the socket */
  static async connect(socket: string): Promise<DaemonClient> {
    await knock(socket);
    // A list of a large subnet is larger than the 4 MiB that a message may have by default.
    const options = { "grpc.max_receive_message_length": -1 };
    return new DaemonClient(new Client(`unix:${socket}`, credentials.createInsecure(), options), socket);
  }

  /** One call. @param service that has the method. @throws CtlError CTL_OLD_DAEMON, CTL_UNREACHABLE, CTL_REFUSED */
  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    service: { readonly fullName: string } = IpamServiceDefinition,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${service.fullName}/${method.name}`,
        (message: Request) => Buffer.from(method.requestType.encode(message).finish()),
        (bytes: Buffer) => method.responseType.decode(bytes),
        request,
        { deadline: Date.now() + DEADLINE_MS },
        (error: ServiceError | null, response?: Response) => {
          if (error === null) resolve(response as Response);
          else reject(describe(error, method.name, this.#socket));
        },
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** gRPC says UNAVAILABLE for everything that is wrong with a socket; the kernel says what. */
async function knock(path: string): Promise<void> {
  const error = await new Promise<NodeJS.ErrnoException | undefined>((done) => {
    const socket = connect(path, () => {
      socket.destroy();
      done(undefined);
    });
    socket.on("error", done);
  });
  if (error === undefined) return;
  throw new CtlError("CTL_UNREACHABLE", `${reason(error, path)} (--socket names another one)`, error);
}

function reason(error: NodeJS.ErrnoException, path: string): string {
  switch (error.code) {
    case "ENOENT":
      return `there is no daemon here: the socket ${path} doesn't exist`;
    case "ECONNREFUSED":
      return `nobody listens on the socket ${path}: the daemon isn't running`;
    case "EACCES":
    case "EPERM":
      return `the socket ${path} is root's alone: no permission`;
    case "ENOTSOCK":
    case "EPROTOTYPE":
      return `${path} is not the daemon's socket`;
    default:
      return `the daemon can't be asked on ${path}: ${error.message}`;
  }
}

function describe(error: ServiceError, method: string, socket: string): CtlError {
  switch (error.code) {
    case status.UNIMPLEMENTED:
      return new CtlError(
        "CTL_OLD_DAEMON",
        `the daemon on ${socket} is older than this flatnetctl: it doesn't know ${method}`,
        error,
      );
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
      return new CtlError("CTL_UNREACHABLE", `the daemon on ${socket} gave no answer: ${error.details}`, error);
    default:
      return new CtlError("CTL_REFUSED", error.details, error);
  }
}
