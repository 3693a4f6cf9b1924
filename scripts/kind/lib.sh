# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
#
# What the kind scripts have in common. Each is safe to run again; 2 is the exit status where a program is missing.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=versions.sh
. "$HERE/versions.sh"

CLUSTER=${FLATNET_KIND_CLUSTER:-flatnet}
CONTEXT=kind-$CLUSTER
IMAGE=${FLATNET_IMAGE:-localhost/flatnet:0.1.0}

say() { printf '%s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }

# need PROGRAM...: ends with 2 and one line when one of them is missing, or docker's daemon doesn't answer.
need() {
  local program missing=()
  for program in "$@"; do
    command -v "$program" >/dev/null 2>&1 || missing+=("$program")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    complain "${0##*/} needs what is not on this machine's PATH: ${missing[*]} (kind $KIND_VERSION: https://kind.sigs.k8s.io)"
    exit 2
  fi
  if [[ " $* " == *" docker "* ]] && ! docker info >/dev/null 2>&1; then
    complain "${0##*/} needs a running docker, and \`docker info\` fails"
    exit 2
  fi
}

cluster_exists() { kind get clusters 2>/dev/null | grep -qxF "$CLUSTER"; }

need_cluster() {
  if ! cluster_exists; then
    complain "there is no kind cluster $CLUSTER: scripts/kind/up.sh makes it"
    exit 2
  fi
}

# Always this cluster, whatever the person's current context is.
k() { kubectl --context "$CONTEXT" "$@"; }
