#!/bin/bash
# Builds every fuzz target; with a number of seconds, also runs each for so long.
#
# `cargo fuzz` runs them when it is there (`cargo install cargo-fuzz`). Without it they are built without
# instrumentation, which shows that they compile and run, but finds little.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-0}
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
status=0
for manifest in */fuzz/Cargo.toml; do
    folder=$(dirname "$manifest")
    crate=$(dirname "$folder")
    for source in "$folder"/fuzz_targets/*.rs; do
        name=$(basename "$source" .rs)
        echo "== $crate: $name"
        if cargo fuzz --help >/dev/null 2>&1; then
            (
                cd "$crate"
                # The address sanitizer is a nightly option; a stable compiler takes it with this variable.
                export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target
                cargo fuzz build "$name"
                [ "$seconds" -eq 0 ] || cargo fuzz run "$name" -- -max_total_time="$seconds" -rss_limit_mb=2048
            ) || status=1
        else
            cargo build -q --manifest-path "$manifest" --target-dir "$target" --bin "$name" || status=1
            [ "$seconds" -eq 0 ] || (cd "$folder" && "$target/debug/$name" -max_total_time="$seconds" -rss_limit_mb=2048) || status=1
        fi
    done
done
exit $status
