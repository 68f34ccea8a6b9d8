#!/usr/bin/env bash
# A real client, end to end: smart-fetch (PyPI) takes a system export from `headrace serve`, and its counts are compared
# with the lake's. Default filters are off: they need _typeFilter.
#
# Usage: .ci/smart_fetch.sh HEADRACE SMART_FETCH
set -euo pipefail
headrace=$1 smart_fetch=$2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

"$headrace" serve tests/samples/lake --port 0 --state "$work/state" >"$work/base" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    [ -s "$work/base" ] && break
    sleep 0.1
done

types=Condition,DiagnosticReport,DocumentReference,Encounter,Immunization,MedicationRequest,Observation,Patient,Procedure,AllergyIntolerance
"$smart_fetch" bulk --fhir-url "$(cat "$work/base")" --no-default-filters --type "$types" "$work/out" >"$work/said" 2>&1 || {
    cat "$work/said" "$work/log"
    exit 1
}

passed=0 failed=0
for type in ${types//,/ }; do
    expected=$(cargo run --quiet --package headrace-tests --bin lake -- count tests/samples/lake | awk -v type="$type" '$1 == type { print $2 }')
    got=$(find "$work/out" -name "$type*.ndjson.gz" -exec zcat {} + | wc -l)
    if [ "$expected" = "$got" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$type: the lake has $expected, smart-fetch got $got"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
