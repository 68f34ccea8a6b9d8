#!/usr/bin/env bash
# A real client, end to end: smart-fetch (PyPI) with its default filters takes a system export and a group's export from
# `headrace serve`, and what it got is compared with what the lake holds.
#
# Usage: .ci/smart_fetch.sh HEADRACE SMART_FETCH
# Holds: B4, B8, B9, B10, B13, CS4, P41, P45
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

fetch() {
    "$smart_fetch" bulk --fhir-url "$(cat "$work/base")" "$@" >"$work/said" 2>&1 || {
        cat "$work/said" "$work/log"
        exit 1
    }
}
fetch "$work/system"
fetch --group hr-group-study-1 "$work/group"

# Expected: by type, from the lake's lines alone. smart-fetch asks for Observations of six categories.
cargo run --quiet --package headrace-tests --bin lake -- cat tests/samples/lake >"$work/lake.ndjson"
python3 - "$work" <<'PY'
import collections, glob, gzip, json, pathlib, sys

work = pathlib.Path(sys.argv[1])
lake = [json.loads(line) for line in open(work / "lake.ndjson", encoding="utf-8")]
categories = {"social-history", "vital-signs", "imaging", "laboratory", "survey", "exam"}
group = next(one for one in lake if one["resourceType"] == "Group" and one["id"] == "hr-group-study-1")
members = {m["entity"]["reference"] for m in group["member"] if not m.get("inactive") and "end" not in m.get("period", {})}


def is_asked_for(one):
    if one["resourceType"] != "Observation":
        return True
    return any(coding.get("code") in categories for concept in one.get("category", []) for coding in concept.get("coding", []))


def references(tree):
    if isinstance(tree, dict):
        yield from (value for name, value in tree.items() if name == "reference" and isinstance(value, str))
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from references(item)


def got(folder):
    found = collections.defaultdict(set)
    for name in glob.glob(str(work / folder / "**" / "*.ndjson.gz"), recursive=True):
        for line in gzip.open(name, "rt", encoding="utf-8"):
            one = json.loads(line)
            found[one["resourceType"]].add(one["id"])
    return found


outside = {"Organization", "Practitioner", "Location", "Medication", "Device"}
passed = failed = 0
for folder, keeps in [
    ("system", lambda one: True),
    ("group", lambda one: one["resourceType"] not in outside and (f"{one['resourceType']}/{one['id']}" in members or members & set(references(one)))),
]:
    found = got(folder)
    expected = collections.defaultdict(set)
    for one in lake:
        if is_asked_for(one) and keeps(one):
            expected[one["resourceType"]].add(one["id"])
    # It asks for the types that it knows, and for Organization and Practitioner not in bulk.
    for kind in sorted(set(expected) - {"CarePlan", "Claim", "Group", "Organization", "Practitioner"} | set(found)):
        if expected[kind] == found[kind]:
            passed += 1
        else:
            failed += 1
            print(f"{folder} {kind}: expected {len(expected[kind])}, got {len(found[kind])}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
PY
