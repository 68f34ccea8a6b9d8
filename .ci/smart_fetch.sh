#!/usr/bin/env bash
# A real client, end to end: smart-fetch (PyPI) with its default filters takes a system export and a group's export from
# `headrace serve`, and what it got is compared with what the lake holds: without access control, and as a registered
# client with a key of each kind, one of whose tokens is ended before its time. With another key it gets nothing.
#
# Usage: .ci/smart_fetch.sh HEADRACE SMART_FETCH; the workspace's other binaries are beside HEADRACE
# Holds: B4, B8, B9, B10, B13, CS4, P41, P45, SEC-A3, SEC-A5, SEC-A11, SEC-A14
set -euo pipefail
headrace=$1 smart_fetch=$2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

# First line of a program's output, as soon as it has said it: where it listens.
start() {
    local into=$1
    shift
    "$@" >"$into" 2>>"$work/log" &
    started+=($!)
    for _ in $(seq 100); do
        [ -s "$into" ] && return
        sleep 0.1
    done
    cat "$work/log"
    exit 1
}

fetch() {
    local base=$1
    shift
    "$smart_fetch" bulk --fhir-url "$base" "$@" >"$work/said" 2>&1
}

must_fetch() {
    fetch "$@" || {
        cat "$work/said" "$work/log"
        exit 1
    }
}

start "$work/open" "$headrace" serve tests/samples/lake --port 0 --state "$work/open-state"
must_fetch "$(cat "$work/open")" "$work/open-system"
must_fetch "$(cat "$work/open")" --group hr-group-study-1 "$work/open-group"

state=$work/smart-state
for alg in ES384 RS384; do
    "$headrace" clients keygen --alg "$alg" --out "$work/$alg" >/dev/null
    "$headrace" clients add "lab-$alg" --scope 'system/*.rs' --jwks "$work/$alg/jwks.json" --state "$state" >/dev/null
done
# Between the two stands a proxy that ends each token after three requests: the server's own time for them is five minutes. The server
# is told the proxy's address, because it reads its own from no header.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start "$work/proxy" python3 .ci/impatient_proxy.py "http://127.0.0.1:$port/fhir"
start "$work/smart" "$headrace" serve tests/samples/lake --port "$port" --base-url "$(cat "$work/proxy")" --state "$state"
for alg in ES384 RS384; do
    login=(--smart-client-id "lab-$alg" --smart-key "$work/$alg/private.jwk")
    must_fetch "$(cat "$work/proxy")" "${login[@]}" "$work/$alg-system"
    must_fetch "$(cat "$work/smart")" "${login[@]}" --group hr-group-study-1 "$work/$alg-group"
done
for login in "--smart-client-id lab-ES384 --smart-key $work/RS384/private.jwk" "--smart-client-id nobody --smart-key $work/ES384/private.jwk" ""; do
    # shellcheck disable=SC2086 # words
    if fetch "$(cat "$work/smart")" $login "$work/refused"; then
        echo "smart-fetch came in that must not: ${login:-without a credential}"
        exit 1
    fi
done

ended=$(python3 -c 'import sys, urllib.request, urllib.parse; print(urllib.request.urlopen(urllib.parse.urljoin(sys.argv[1], "/ended")).read().decode())' "$(cat "$work/proxy")")

# Expected: by type, from the lake's lines alone. smart-fetch asks for Observations of six categories.
"$(dirname "$headrace")/lake" cat tests/samples/lake >"$work/lake.ndjson"
python3 - "$work" "$ended" <<'PY'
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
for level, keeps in [
    ("system", lambda one: True),
    ("group", lambda one: one["resourceType"] not in outside and (f"{one['resourceType']}/{one['id']}" in members or members & set(references(one)))),
]:
    expected = collections.defaultdict(set)
    for one in lake:
        if is_asked_for(one) and keeps(one):
            expected[one["resourceType"]].add(one["id"])
    for access in ["open", "ES384", "RS384"]:
        found = got(f"{access}-{level}")
        # It asks for the types that it knows, and for Organization and Practitioner not in bulk.
        for kind in sorted(set(expected) - {"CarePlan", "Claim", "Group", "Organization", "Practitioner"} | set(found)):
            if expected[kind] == found[kind]:
                passed += 1
            else:
                failed += 1
                print(f"{access} {level} {kind}: expected {len(expected[kind])}, got {len(found[kind])}")
if got("refused"):
    failed += 1
    print("resources went to a rejected client")
if int(sys.argv[2]) < 2:
    failed += 1
    print(f"only {sys.argv[2]} tokens were ended, so renewing them was not tried")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
PY
