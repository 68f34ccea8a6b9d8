#!/usr/bin/env bash
# Fuzzes what reads hostile input, each target for some seconds: `.ci/fuzz.sh [seconds]`. It needs a nightly compiler, which
# is not installed here: without one it replays the corpus alone, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
tools=$PWD/target/tools

echo "replaying the corpus"
cargo test --quiet --locked -p headrace-edge --test fuzz_corpus

if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "NOT FUZZED: there is no nightly compiler (rustup toolchain install nightly)"
  exit 0
fi
[ -x "$tools/bin/cargo-fuzz" ] || cargo install cargo-fuzz --version 0.13.1 --locked --quiet --root "$tools"
for target in request type_filter line token_request jwt_header deid; do
  echo "fuzzing $target for $seconds s"
  # What it learns goes below target/: the committed corpus stays as small as it is.
  mkdir -p "target/fuzz/corpus/$target"
  PATH="$tools/bin:$PATH" cargo +nightly fuzz run --target-dir target/fuzz "$target" "target/fuzz/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1
done
