# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
#
# What the kind scripts were written for. Other versions may do: these are what a failure is to be compared with.
# A node image belongs to a release of kind: https://github.com/kubernetes-sigs/kind/releases names both, with digests.
KIND_VERSION=v0.30.0
NODE_IMAGE=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a
