// SPDX-License-Identifier: Apache-2.0
//
// gRPC server reflection: what this server's services and messages are, so that tools need no proto files.
import { type handleBidiStreamingCall, type Server, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { FILES } from "../gen/descriptors.ts";
import {
  ServerReflectionDefinition,
  ServerReflectionRequest,
  ServerReflectionResponse,
} from "../gen/grpc/reflection/v1/reflection.ts";

/** v1alpha has the same messages; older clients know nothing else. */
const NAMES = [ServerReflectionDefinition.fullName, "grpc.reflection.v1alpha.ServerReflection"];

/** One answer. Pure. */
export function reflect(request: ServerReflectionRequest): ServerReflectionResponse {
  const common = { validHost: request.host, originalRequest: request };
  if (request.listServices !== undefined) {
    const service = FILES.flatMap(({ services }) => services).map((name) => ({ name }));
    return { ...common, listServicesResponse: { service } };
  }
  const { fileByFilename, fileContainingSymbol, fileContainingExtension, allExtensionNumbersOfType } = request;
  const file = FILES.find(
    ({ name, symbols }) =>
      name === fileByFilename || (fileContainingSymbol !== undefined && symbols.includes(fileContainingSymbol)),
  );
  if (file !== undefined) {
    return { ...common, fileDescriptorResponse: { fileDescriptorProto: [Buffer.from(file.base64, "base64")] } };
  }
  const wanted = fileByFilename ?? fileContainingSymbol ?? fileContainingExtension?.containingType;
  // proto3 has no extensions of messages.
  if (
    allExtensionNumbersOfType !== undefined &&
    FILES.some(({ symbols }) => symbols.includes(allExtensionNumbersOfType))
  ) {
    const baseTypeName = allExtensionNumbersOfType;
    return { ...common, allExtensionNumbersResponse: { baseTypeName, extensionNumber: [] } };
  }
  const errorMessage = `there is no ${wanted ?? allExtensionNumbersOfType ?? "such request"}`;
  return { ...common, errorResponse: { errorCode: status.NOT_FOUND, errorMessage } };
}

/** Adds the service to a server that isn't bound yet. */
export function addReflection(server: Server): void {
  const method = ServerReflectionDefinition.methods.serverReflectionInfo;
  const serverReflectionInfo: handleBidiStreamingCall<ServerReflectionRequest, ServerReflectionResponse> = (call) => {
    call.on("data", (request: ServerReflectionRequest) => call.write(reflect(request)));
    call.on("end", () => call.end());
  };
  for (const name of NAMES) {
    const definition = {
      path: `/${name}/${method.name}`,
      requestStream: true,
      responseStream: true,
      requestSerialize: (message: ServerReflectionRequest) =>
        Buffer.from(ServerReflectionRequest.encode(message).finish()),
      requestDeserialize: (bytes: Buffer) => ServerReflectionRequest.decode(bytes),
      responseSerialize: (message: ServerReflectionResponse) =>
        Buffer.from(ServerReflectionResponse.encode(message).finish()),
      responseDeserialize: (bytes: Buffer) => ServerReflectionResponse.decode(bytes),
    } as const;
    server.addService({ serverReflectionInfo: definition }, { serverReflectionInfo } as UntypedServiceImplementation);
  }
}
