#!/usr/bin/env bash
# Synchronizes with an independent FHIR server, of Medplum's parts from npm. package-lock.json pins them.
# Usage: .ci/fhir_server/run.sh HEADRACE
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
headrace=$(realpath "$1")
cd "$here/../.."
packages=target/fhir-server
# --legacy-peer-deps: the PDF writer that Medplum depends on is not needed.
.ci/npm_packages.sh "$here" "$packages" --legacy-peer-deps
# Node.js looks up modules relative to the script.
cp "$here"/*.mjs "$packages/"
node "$packages/check.mjs" "$headrace" tests/samples/lake
