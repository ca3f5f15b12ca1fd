#!/bin/bash
# Looks for calls that panic in the compiled code of runstate, notifiers and lifecycle: an index out of bounds, an overflow, an
# unwrap. There must be none.
#
# Looked at are the crates' examples as a release builds them, overflow checks included: generic code is compiled where it is
# used, and lifecycle's simulator uses nearly all of the three. One kind is left: `RefCell` checks at run time that nobody
# else has borrowed. That no borrow is held while a callback runs is what the tests with callbacks are for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}/panics
triple=$(rustc -vV | sed -n 's/^host: //p')
crates=(runstate notifiers lifecycle)
# Calls by name: through a table of addresses they could not be told apart.
export RUSTFLAGS="-C relocation-model=static"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
for crate in "${crates[@]}"; do
    cargo build -q --release --locked -p "$crate" --examples --target "$triple" --target-dir "$target"
done
find "$target/$triple/release/examples" -maxdepth 1 -type f -perm -u+x ! -name '*-*' -print0 |
    xargs -0 -n 1 objdump -dC --no-show-raw-insn |
    awk '
        # `ADDRESS <FUNCTION>:` begins a function; a call ends in `<CALLEE>`.
        /^[0-9a-f]+ </ {
            ours = /[< &(](runstate|notifiers|lifecycle)::/
            functions += ours
            function_name = substr($0, index($0, "<"))
        }
        ours && /(call|jmp) / && /core::panicking|unwrap_failed|expect_failed|_fail>/ { print "   " function_name substr($0, index($0, "<")); panics++ }
        ours && /core::cell::panic_already/ { borrows++ }
        END {
            print functions " functions, " panics + 0 " calls that panic, " borrows + 0 " checks of a borrow"
            # Without a function, or a check of a borrow, the names could not be read.
            exit panics > 0 || functions < 100 || borrows == 0
        }'
