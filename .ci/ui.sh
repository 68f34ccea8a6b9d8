#!/usr/bin/env bash
# The page for people at a browser, in a real Chromium: exports are started, followed, downloaded, cancelled and rejected, at a server
# without access control and through `headrace ui` at one with it; long lists; the keyboard alone; and the rules of accessibility that
# axe knows. Without a Chromium nothing is tested, and the last line says so.
#
# Usage: .ci/ui.sh HEADRACE [--short] [--assets DIR] [--pictures DIR]
#   --short          only the tests that a change is checked with
#   --assets DIR     takes the files of the page from DIR, so that a change of them needs no build
#   --pictures DIR   writes a picture of each view to DIR
set -euo pipefail
headrace=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ] || ! command -v npm >/dev/null; then
    echo "the tests of the page in a browser are skipped: they need Chromium (apt-get install chromium), Node.js and npm"
    sed -n 's/^test("\([^"]*\)".*/skipped: \1/p' .ci/ui/page_test.mjs
    echo "0 passed, 0 failed, $(grep -c '^test("' .ci/ui/page_test.mjs) skipped"
    exit 0
fi
tools=$PWD/target/tools/ui
.ci/npm_packages.sh .ci/ui "$tools"
for file in shared/local/src/server/page/assets/*.js; do
    node --input-type=module --check <"$file" || { echo "$file is no JavaScript"; exit 1; }
done
CHROMIUM=$chromium NODE_TOOLS=$tools/node_modules node .ci/ui/page_test.mjs "$headrace" "$@"
