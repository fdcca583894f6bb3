#!/bin/sh
# Build the third-party files of the dashboard page into src/upwell/serve/web/static/.
#
# Needs Node and npm; users of Upwell never do, because the built files are committed. The exact
# versions stand in package.json; the lock file names no registry (.npmrc).
set -eu
cd "$(dirname "$0")"
static=../src/upwell/serve/web/static

npm ci --no-audit --no-fund

npx --no-install esbuild charts.js --bundle --minify --format=esm --target=es2022 \
  --legal-comments=none --outfile="$static/charts.js"

mkdir -p "$static/fonts"
for subset in latin latin-ext; do
  cp "node_modules/@fontsource-variable/inter/files/inter-$subset-wght-normal.woff2" "$static/fonts/"
done

{
  echo "Files in this folder that are not Upwell's own, and their licences."
  echo
  echo "== charts.js: built by frontend/build.sh from =="
  for package in echarts zrender tslib; do
    version=$(node -p "require('./node_modules/$package/package.json').version")
    echo
    echo "-- $package $version --"
    echo
    cat "node_modules/$package/NOTICE" 2>/dev/null || true
    cat "node_modules/$package/LICENSE" 2>/dev/null || cat "node_modules/$package/LICENSE.txt"
  done
  echo
  echo "== fonts/: Inter, from @fontsource-variable/inter $(node -p "require('./node_modules/@fontsource-variable/inter/package.json').version") =="
  echo
  cat node_modules/@fontsource-variable/inter/LICENSE
} > "$static/NOTICE.txt"

ls -l "$static"
