#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes the cluster of up.sh. Needs docker and kind.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need docker kind

if cluster_exists; then
  kind delete cluster --name "$CLUSTER"
else
  say "there is no kind cluster $CLUSTER"
fi
