#!/usr/bin/env bash
# Simulates exports of lakes of different sizes, and writes the results to shared/simulator/results/NAME.ndjson, one document per line.
# `.ci/scale.sh NAME [SIZE WORKERS MODE]...` Without sizes, those of docs/scale.md. Fails if an export is not exact.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
[ $# -gt 0 ] || set -- 100GB 100 one 100GB 100 auto 100GB 1000 one 100GB 1000 auto 300GB 100 one 300GB 100 auto 300GB 1000 one 300GB 1000 auto \
    1TB 100 one 1TB 100 auto 1TB 1000 one 1TB 1000 auto
cargo build --quiet --profile laptop -p headrace-simulator
results=shared/simulator/results/$name.ndjson
mkdir -p "$(dirname "$results")"
: > "$results.new"
failed=0
while [ $# -ge 3 ]; do
    printf '%s, %s workers, %s\n' "$1" "$2" "$3"
    report=$(target/laptop/headrace-simulator --lake "$1" --workers "$2" --mode "$3" --seed 7 --json) || failed=1
    python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin), ensure_ascii=False))' <<< "$report" >> "$results.new"
    shift 3
done
mv "$results.new" "$results"
exit $failed
