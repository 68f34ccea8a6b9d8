#!/usr/bin/env bash
# Simulates exports of lakes of different sizes, and writes one JSON document per line to RESULTS. Fails if an export is not exact.
# `.ci/scale.sh RESULTS [SIZE WORKERS STARTED_WORKERS MODE]...` The committed results are in shared/simulator/results.
set -euo pipefail
cd "$(dirname "$0")/.."
results=$1
shift
[ $# -gt 0 ] || set -- 100GB 100 0 one 100GB 100 0 auto 300GB 1000 0 one 300GB 1000 0 auto 1TB 1000 900 one 1TB 1000 900 auto
cargo build --quiet --profile laptop -p headrace-simulator
mkdir -p "$(dirname "$results")"
: > "$results"
failed=0
while [ $# -ge 4 ]; do
    printf '%s, %s workers, %s of them started by the export, %s\n' "$@" | head -n 1
    report=$(target/laptop/headrace-simulator --lake "$1" --workers "$2" --started-workers "$3" --mode "$4" --seed 7 --json) || failed=1
    python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin), ensure_ascii=False))' <<< "$report" >> "$results"
    shift 4
done
exit $failed
