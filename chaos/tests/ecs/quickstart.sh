#!/usr/bin/env bash
# A newcomer's first hour: deploy/quickstart, its printed exports pasted, and Amazon's tutorial on
# what stands then. Runs in a network namespace of its own, beside a quickstart that may be up.
# MUSTER_BIN, LAB and CLUSTER_DIR say which binaries and where.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
ip link set lo up
trap '"$ROOT/deploy/quickstart" down' EXIT

printed=$("$ROOT/deploy/quickstart" --workers 3 | tee /dev/stderr)
echo "$printed"
# As it is pasted, AWS_REGION and all.
eval "$(grep '^  export AWS_' <<<"$printed")"
cd "$(mktemp -d -p "$CLUSTER_DIR")"
export HOME=$PWD
"$ROOT/chaos/tests/ecs/amazon.sh" sleep360
"$ROOT/chaos/tests/ecs/amazon.sh" create
added=$("$ROOT/deploy/quickstart" worker MyCluster)
address=$(cut -d' ' -f2 <<<"${added%%:*}")
"$ROOT/chaos/tests/ecs/amazon.sh" service "$address" hello
