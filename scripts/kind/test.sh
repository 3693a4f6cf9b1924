#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Proves that the cluster of up.sh is flat: from the pod of every node to the pod of every node, and from every node to
# every pod, in both families, each sees the other's own address; and the service in front of the pods answers through
# kube-proxy in both families. Needs docker, kind and kubectl. Exit status 1 when it is not.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need docker kind kubectl
need_cluster

k apply --filename "$HERE/pods.yaml"
k --namespace flatnet-proof rollout status daemonset/echo --timeout 300s

FAILED=0
CHECKED=0

# expect WHAT WANTED GOT
expect() {
  CHECKED=$((CHECKED + 1))
  if [ "$2" != "$3" ]; then
    FAILED=$((FAILED + 1))
    complain "NOT FLAT $1: wanted $2, got ${3:-no answer}"
  fi
}

# url ADDRESS PORT PATH
url() {
  case $1 in
    *:*) printf 'http://[%s]:%s%s' "$1" "$2" "$3" ;;
    *) printf 'http://%s:%s%s' "$1" "$2" "$3" ;;
  esac
}

# host_of "[fd00::1]:4711": the address alone.
host_of() {
  local text=${1%:*}
  text=${text#[}
  printf '%s' "${text%]}"
}

# ask_from_pod POD URL; ask_from_node NODE URL: the answer, or nothing.
ask_from_pod() { k --namespace flatnet-proof exec "$1" -- curl --silent --show-error --max-time 5 "$2" 2>/dev/null || true; }
ask_from_node() { docker exec "$1" curl --silent --show-error --max-time 5 "$2" 2>/dev/null || true; }

# family ADDRESS
family() { case $1 in *:*) echo 6 ;; *) echo 4 ;; esac; }

# address FAMILY ADDRESS...: the one of that family.
address() {
  local wanted=$1 one
  shift
  for one in "$@"; do
    if [ "$(family "$one")" = "$wanted" ]; then
      printf '%s' "$one"
      return
    fi
  done
}

PODS=() NODES=() POD_IPS=() NODE_IPS=()
while read -r pod node ips; do
  PODS+=("$pod")
  NODES+=("$node")
  POD_IPS+=("${ips//,/ }")
  NODE_IPS+=("$(k get node "$node" --output \
    jsonpath='{range .status.addresses[?(@.type=="InternalIP")]}{.address}{" "}{end}')")
done < <(k --namespace flatnet-proof get pods --selector app=echo --output \
  jsonpath='{range .items[*]}{.metadata.name} {.spec.nodeName} {range .status.podIPs[*]}{.ip},{end}{"\n"}{end}')

if [ "${#PODS[@]}" -lt 2 ]; then
  complain "there are ${#PODS[@]} pods to ask; at least two nodes are needed"
  exit 1
fi

for family in 4 6; do
  for to in "${!PODS[@]}"; do
    # The lists are meant to be split.
    # shellcheck disable=SC2086
    target=$(address "$family" ${POD_IPS[to]})
    if [ -z "$target" ]; then
      expect "${PODS[to]} has an IPv$family address" yes no
      continue
    fi
    for from in "${!PODS[@]}"; do
      # shellcheck disable=SC2086
      own=$(address "$family" ${POD_IPS[from]})
      seen=$(ask_from_pod "${PODS[from]}" "$(url "$target" 8080 /clientip)")
      expect "pod on ${NODES[from]} -> pod on ${NODES[to]}, IPv$family" "$own" "$(host_of "$seen")"
      # shellcheck disable=SC2086
      own=$(address "$family" ${NODE_IPS[from]})
      seen=$(ask_from_node "${NODES[from]}" "$(url "$target" 8080 /clientip)")
      expect "${NODES[from]} -> pod on ${NODES[to]}, IPv$family" "$own" "$(host_of "$seen")"
    done
  done
done

SERVICE_IPS=$(k --namespace flatnet-proof get service echo --output jsonpath='{.spec.clusterIPs[*]}')
for service in $SERVICE_IPS; do
  for from in "${!PODS[@]}"; do
    answer=$(ask_from_pod "${PODS[from]}" "$(url "$service" 80 /hostname)")
    case " ${PODS[*]} " in
      *" ${answer:--} "*) expect "service" ok ok ;;
      *) expect "pod on ${NODES[from]} -> service $service" "a pod's name" "$answer" ;;
    esac
  done
done

say "$CHECKED asked, $FAILED failed"
[ "$FAILED" -eq 0 ]
