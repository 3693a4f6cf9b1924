// SPDX-License-Identifier: Apache-2.0
//
// The sandbox image that the tests give to the container runtime, as an archive for `ctr images import`.

import { createHash } from "node:crypto";
import { type PauseArch, pauseExecutable } from "./elf.ts";
import { tar } from "./tar.ts";

/** What the image is called. Nobody serves it: a runtime that tries to pull it fails, and so shows that the import did. */
export const PAUSE_IMAGE = "flatnet.test/pause:1";

/** The image specification's names of the architectures (Go's GOARCH). */
const OCI_ARCH: Record<PauseArch, string> = { x64: "amd64", arm64: "arm64" };

const json = (value: unknown) => Buffer.from(JSON.stringify(value));

/** The image as a tar of an OCI layout (image-spec, image-layout.md): one layer, which holds one program. */
export function pauseImageArchive(arch: PauseArch): Uint8Array {
  const layer = tar([{ path: "pause", mode: 0o755, content: pauseExecutable(arch) }]);
  const config = json({
    architecture: OCI_ARCH[arch],
    os: "linux",
    config: { Entrypoint: ["/pause"], WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: [digest(layer)] },
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: descriptor("application/vnd.oci.image.config.v1+json", config),
    layers: [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
  });
  const index = json({
    schemaVersion: 2,
    manifests: [
      {
        ...descriptor("application/vnd.oci.image.manifest.v1+json", manifest),
        platform: { architecture: OCI_ARCH[arch], os: "linux" },
        annotations: { "io.containerd.image.name": PAUSE_IMAGE },
      },
    ],
  });
  return tar([
    { path: "oci-layout", mode: 0o644, content: json({ imageLayoutVersion: "1.0.0" }) },
    { path: "index.json", mode: 0o644, content: index },
    ...[manifest, config, layer].map((content) => ({
      path: `blobs/${digest(content).replace(":", "/")}`,
      mode: 0o644,
      content,
    })),
  ]);
}

function digest(content: Uint8Array): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function descriptor(mediaType: string, content: Uint8Array) {
  return { mediaType, digest: digest(content), size: content.length };
}
