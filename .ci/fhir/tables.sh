#!/usr/bin/env bash
# Derives shared/fhir/tables and shared/fhir/structures from the published definitions of FHIR: three CC0 packages from npm,
# pinned by the hashes in package-lock.json. `git diff` then tells whether the committed texts are what the generator writes.
#
# Usage: .ci/fhir/tables.sh [GENERATOR]; without a generator it is built and run
set -euo pipefail
generator=${1:+$(realpath "$1")}
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
packages=target/fhir

.ci/npm_packages.sh "$here" "$packages"

modules=$packages/node_modules
definitions=("r4=$modules/hl7.fhir.r4.examples" "r4b=$modules/hl7.fhir.r4b.core" "r5=$modules/hl7.fhir.r5.core")
if [ -n "$generator" ]; then
    "$generator" shared/fhir "${definitions[@]}"
else
    cargo run --quiet --locked --package headrace-tests --bin fhir_tables -- shared/fhir "${definitions[@]}"
fi
