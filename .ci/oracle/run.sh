#!/usr/bin/env bash
# Compares the search matcher with independent implementations over the example resources of FHIR R4.
# .ci/fhir installs the examples. package-lock.json pins the other packages.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
packages=target/oracle
examples=target/fhir/node_modules/hl7.fhir.r4.examples
[ -d "$examples" ] || { echo "$examples does not exist; run .ci/fhir/tables.sh first, which installs it" >&2; exit 1; }

# --legacy-peer-deps: the PDF writer that Medplum depends on is not needed.
.ci/npm_packages.sh "$here" "$packages" --legacy-peer-deps
# Node.js looks up modules relative to the script.
cp "$here"/*.mjs "$packages/"

cargo build --quiet --locked --package headrace-fhir --example type_filter
node "$packages/check.mjs" "$examples" "${CARGO_TARGET_DIR:-target}/debug/examples/type_filter" "$here"
