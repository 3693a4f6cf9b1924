// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FILES } from "../gen/descriptors.ts";
import { IpamServiceDefinition } from "../gen/flatnet/ipam/v1/ipam.ts";
import { PolicyServiceDefinition } from "../gen/flatnet/policy/v1/policy.ts";
import { reflect } from "./reflection.ts";

const IPAM_FILE = "flatnet/ipam/v1/ipam.proto";

test("the services that are listed are those that are served", () => {
  expect(reflect({ host: "h", listServices: "" })).toMatchObject({
    validHost: "h",
    listServicesResponse: {
      service: [
        { name: IpamServiceDefinition.fullName },
        { name: PolicyServiceDefinition.fullName },
        { name: "grpc.reflection.v1.ServerReflection" },
      ],
    },
  });
});

test("a file is found by its name, a message, the service and each of its methods", () => {
  const base64 = FILES.find(({ name }) => name === IPAM_FILE)?.base64;
  const service = IpamServiceDefinition.fullName;
  const methods = Object.values(IpamServiceDefinition.methods).map(({ name }) => `${service}.${name}`);
  const symbols = ["flatnet.ipam.v1.Allocation", service, ...methods];
  const requests = [{ fileByFilename: IPAM_FILE }, ...symbols.map((symbol) => ({ fileContainingSymbol: symbol }))];
  for (const request of requests) {
    const { fileDescriptorResponse } = reflect({ host: "", ...request });
    const files = fileDescriptorResponse?.fileDescriptorProto.map((bytes) => Buffer.from(bytes).toString("base64"));
    expect(files).toEqual([base64]);
  }
});

test("a file carries no comments: nothing of it is longer than its names", () => {
  const text = Buffer.from(FILES[0]?.base64 ?? "", "base64").toString("latin1");
  expect(text).toContain("AllocateRequest");
  expect(text).not.toContain("Gives the attachment");
});

test("what isn't there is NOT_FOUND and named; messages have no extensions", () => {
  const odd = [
    { fileByFilename: "x.proto" },
    { fileContainingSymbol: "x.Y" },
    { allExtensionNumbersOfType: "x.Y" },
    {},
  ];
  expect(odd.map((request) => reflect({ host: "", ...request }).errorResponse)).toEqual(
    ["x.proto", "x.Y", "x.Y", "such request"].map((what) => ({ errorCode: 5, errorMessage: `there is no ${what}` })),
  );
  const baseTypeName = "flatnet.ipam.v1.Allocation";
  expect(reflect({ host: "", allExtensionNumbersOfType: baseTypeName })).toMatchObject({
    allExtensionNumbersResponse: { baseTypeName, extensionNumber: [] },
  });
});
