#!/usr/bin/env bash
# Synchronizes with an independent FHIR server, of Medplum's parts from npm. package-lock.json pins them.
# Usage: .ci/fhir_server/run.sh HEADRACE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
headrace=$(realpath "$1")
cd "$here/../.."
packages=target/fhir-server
if ! cmp --silent "$here/package-lock.json" "$packages/installed.json"; then
    mkdir -p "$packages"
    cp "$here/package.json" "$here/package-lock.json" "$packages/"
    npm ci --prefix "$packages" --ignore-scripts --legacy-peer-deps --no-audit --no-fund --silent
    cp "$here/package-lock.json" "$packages/installed.json"
fi
# Node.js looks up modules relative to the script.
cp "$here"/*.mjs "$packages/"
node "$packages/check.mjs" "$headrace" tests/samples/lake
