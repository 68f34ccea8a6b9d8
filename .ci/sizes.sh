#!/usr/bin/env bash
# Builds the functions as they are deployed and holds each to its budget: what is small starts fast.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet -p kickoff -p status -p cancel -p chunk-worker -p files -p groups -p metadata -p reaper -p token -p sync-worker --bins

# Kilobytes: what was measured on x86_64, and a tenth for what a dependency's patch release may add. arm64 is smaller.
budget() {
    case $1 in
        kickoff) echo 14300 ;;
        status) echo 9300 ;;
        cancel) echo 10800 ;;
        chunk-worker) echo 15400 ;;
        files) echo 10600 ;;
        groups) echo 10900 ;;
        metadata) echo 3100 ;;
        reaper) echo 15100 ;;
        token) echo 9200 ;;
        sync-worker) echo 15900 ;;
    esac
}

within=0 over=0
for function in kickoff status cancel chunk-worker files groups metadata reaper token sync-worker; do
    kilobytes=$(($(stat -c %s "target/release/$function") / 1000))
    limit=$(budget "$function")
    printf '%-14s %6d kB of %6d kB\n' "$function" "$kilobytes" "$limit"
    if [ "$kilobytes" -le "$limit" ]; then within=$((within + 1)); else over=$((over + 1)); fi
done
echo "$within passed, $over failed"
[ "$over" = 0 ]
