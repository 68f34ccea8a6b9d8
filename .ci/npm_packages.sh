#!/usr/bin/env bash
# Installs the npm packages that a package-lock.json pins, unless they are installed.
# Usage: .ci/npm_packages.sh SOURCE TARGET [NPM_ARGUMENT...]
#   SOURCE   the folder with package.json and package-lock.json
#   TARGET   the folder in which node_modules is created
set -euo pipefail
source=$1 target=$2
shift 2
cmp --silent "$source/package-lock.json" "$target/installed.json" && exit 0
mkdir -p "$target"
cp "$source/package.json" "$source/package-lock.json" "$target/"
npm ci --prefix "$target" --ignore-scripts --no-audit --no-fund --silent "$@"
cp "$source/package-lock.json" "$target/installed.json"
