#!/bin/sh
# Unpacks the browsers and what drives Chromium into node_modules, without what they depend on: each
# brings one file that needs nothing else.
cd "$(dirname "$0")" || exit 1
for package in @jbrowse/react-app2@4.3.0 igv@3.8.10 playwright-core@1.65.1; do
    name=${package%@*}
    [ -f "node_modules/$name/package.json" ] && continue
    archive=$(npm pack --silent "$package") || exit 1
    mkdir -p "node_modules/$name"
    tar xzf "$archive" -C "node_modules/$name" --strip-components 1
    rm "$archive"
done
