// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KUBERNETES_SERVICE_ADDRESS } from "./api-server.ts";

const NAMES = [
  ...["127.0.0.1", "::1", KUBERNETES_SERVICE_ADDRESS].map((ip) => `IP:${ip}`),
  "DNS:localhost",
  "DNS:kubernetes",
];

/** All PEM. */
export interface ServerCertificate {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A certificate for loopback and the service `kubernetes`, and an authority that signs it and is forgotten. Takes openssl. */
export function makeCertificate(): ServerCertificate {
  const directory = mkdtempSync(join(tmpdir(), "kube-api-ca-"));
  try {
    const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
    const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
      "req",
      "-x509",
      ...newKey,
      "-keyout",
      "ca.key",
      "-out",
      "ca.crt",
      "-subj",
      `/CN=ca-${Date.now()}`,
      "-days",
      "2",
    );
    openssl("req", ...newKey, "-keyout", "key", "-out", "csr", "-subj", "/CN=kube-apiserver");
    writeFileSync(join(directory, "ext"), `subjectAltName=${NAMES.join(",")}\n`);
    openssl(
      ...["x509", "-req", "-in", "csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"],
      ...["-extfile", "ext", "-out", "cert"],
    );
    const read = (name: string) => readFileSync(join(directory, name), "utf8");
    return { ca: read("ca.crt"), cert: read("cert"), key: read("key") };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
