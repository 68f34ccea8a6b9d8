#!/usr/bin/env bash
# Simulates exports of lakes of different sizes, and writes one JSON document per line to RESULTS. Fails if an export is not exact.
# `.ci/scale.sh RESULTS [SIZE WORKERS MODE]...` The committed results are in shared/simulator/results.
set -euo pipefail
cd "$(dirname "$0")/.."
results=$1
shift
[ $# -gt 0 ] || set -- 100GB 100 one 100GB 100 auto 100GB 1000 one 100GB 1000 auto 300GB 100 one
cargo build --quiet --profile laptop -p headrace-simulator
mkdir -p "$(dirname "$results")"
: > "$results"
failed=0
while [ $# -ge 3 ]; do
    printf '%s, %s workers, %s\n' "$1" "$2" "$3"
    report=$(target/laptop/headrace-simulator --lake "$1" --workers "$2" --mode "$3" --seed 7 --json) || failed=1
    python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin), ensure_ascii=False))' <<< "$report" >> "$results"
    shift 3
done
exit $failed
