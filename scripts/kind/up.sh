#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A kind cluster of three nodes with flatnet as its network, built from this checkout. Needs docker, kind and kubectl.
# Run again it brings the cluster up to the checkout.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need docker kind kubectl

if [ "$(kind version -q 2>/dev/null || true)" != "${KIND_VERSION#v}" ]; then
  say "kind is $(kind version -q 2>/dev/null || echo unknown); these scripts were written for ${KIND_VERSION#v}"
fi
if cluster_exists; then
  say "the cluster $CLUSTER is there"
else
  # Not --wait: its nodes are not Ready before there is a network.
  kind create cluster --name "$CLUSTER" --image "$NODE_IMAGE" --config "$HERE/cluster.yaml"
fi

"$HERE/load.sh"

# Pods' IPv4 and IPv6 are known to nobody outside of kind's nodes, but then no test of ours leaves the cluster: the base.
k apply --filename "$ROOT/deploy/flatnet.yaml"
k --namespace flatnet-system rollout status daemonset/flatnet --timeout 180s
k wait --for condition=Ready nodes --all --timeout 180s
say "scripts/kind/test.sh proves that $CLUSTER is flat"
