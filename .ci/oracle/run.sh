#!/usr/bin/env bash
# Compares the search matcher with independent judges over the example resources of FHIR R4.
# The examples are those that .ci/fhir installs; what else is needed is pinned by package-lock.json.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
packages=target/oracle
examples=target/fhir/node_modules/hl7.fhir.r4.examples
[ -d "$examples" ] || { echo "$examples is not there; run .ci/fhir/tables.sh first, which installs it" >&2; exit 1; }

if ! cmp --silent "$here/package-lock.json" "$packages/installed.json"; then
    mkdir -p "$packages"
    cp "$here/package.json" "$here/package-lock.json" "$packages/"
    # Medplum's peer, a PDF writer, is of no use here.
    npm ci --prefix "$packages" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
    cp "$here/package-lock.json" "$packages/installed.json"
fi
# Modules are looked up from where a script stands.
cp "$here"/*.mjs "$packages/"

cargo build --quiet --locked --package headrace-fhir --example type_filter
node "$packages/check.mjs" "$examples" "${CARGO_TARGET_DIR:-target}/debug/examples/type_filter" "$here"
