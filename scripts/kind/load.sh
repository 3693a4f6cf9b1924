#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the image from this checkout, puts it on every node of the cluster, and has the agents replaced, if there are any.
# Needs docker, kind, kubectl, and the cluster of up.sh, which calls this.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need docker kind kubectl
need_cluster

"$ROOT/scripts/node" "$ROOT/scripts/image.ts" --tag "$IMAGE"
kind load docker-image --name "$CLUSTER" "$IMAGE"

if k --namespace flatnet-system get daemonset flatnet >/dev/null 2>&1; then
  k --namespace flatnet-system rollout restart daemonset/flatnet
  k --namespace flatnet-system rollout status daemonset/flatnet --timeout 180s
fi
