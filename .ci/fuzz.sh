#!/usr/bin/env bash
# Fuzzes what reads hostile input, each target for some seconds: `.ci/fuzz.sh [seconds]`. Coverage guides it on the compiler that
# everything else is built with; only sanitizers would need another, and there is no unsafe code of ours for them to watch.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
tools=$PWD/target/tools

echo "replaying the corpus"
cargo test --quiet --locked -p headrace-edge --test fuzz_corpus

[ -x "$tools/bin/cargo-fuzz" ] || cargo install cargo-fuzz --version 0.13.1 --locked --quiet --root "$tools"
export PATH="$tools/bin:$PATH"
for target in request type_filter line token_request jwt_header deid; do
  echo "fuzzing $target for $seconds s"
  # What it learns goes below target/: the committed corpus stays as small as it is.
  mkdir -p "target/fuzz/corpus/$target"
  cargo fuzz run --sanitizer none --target-dir target/fuzz "$target" "target/fuzz/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=1
done
