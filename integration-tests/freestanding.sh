#!/bin/bash
# Builds `freestanding.rs`, a program without the standard library that uses runstate and notifiers, and runs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/freestanding
rustfmt --edition 2024 --check integration-tests/freestanding.rs
# A panic does not unwind: that takes the standard library.
export CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=2
cargo build -q --release --locked -p runstate -p notifiers --target-dir "$target"
# Of the C library only what the compiler itself calls is linked: memcpy and the like.
rustc --edition 2024 -D warnings -C opt-level=2 -C panic=abort -C link-args="-nostartfiles -lc" \
    --extern "runstate=$target/release/librunstate.rlib" --extern "notifiers=$target/release/libnotifiers.rlib" \
    -o "$target/freestanding" integration-tests/freestanding.rs
"$target/freestanding"
echo "runstate and notifiers work without the standard library"
