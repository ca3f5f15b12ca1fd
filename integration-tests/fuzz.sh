#!/bin/bash
# Builds every fuzz target; with a number of seconds, also runs each for so long.
#
#   integration-tests/fuzz.sh [SECONDS [WORD]]     only targets whose CRATE/NAME contains WORD
#   RUNS=N integration-tests/fuzz.sh SECONDS       no more than so many executions of each
#   integration-tests/fuzz.sh keep [WORD]          what was found since is kept, if it reaches what nothing kept does
#
# It needs nothing but Rust and a C++ compiler for libFuzzer: what `cargo fuzz` (which works on the same folders) asks
# of the compiler is asked here. A run begins with the inputs that the crate keeps in tests/corpus/NAME.txt, one a line in
# hexadecimal, and leaves what it finds in CRATE/fuzz/corpus/NAME, and what fails in CRATE/fuzz/artifacts/NAME.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-0}
word=${2:-}
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')
failures=()

# The sanitizer and its coverage are not stable options of the compiler; with this variable a stable one takes them.
export RUSTC_BOOTSTRAP=1
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
coverage='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares'

# build FOLDER NAME
build() {
    RUSTFLAGS="$coverage -Zsanitizer=address" \
        cargo build -q --release --manifest-path "$1/Cargo.toml" --target "$triple" --target-dir "$target" --bin "$2"
}

# unpack FOLDER NAME TO: the kept inputs, a file each.
unpack() {
    local kept="$1/../tests/corpus/$2.txt"
    mkdir -p "$3"
    [ ! -e "$kept" ] || python3 - "$kept" "$3" <<'PYTHON'
import hashlib, pathlib, sys
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    data = bytes.fromhex(line)
    (pathlib.Path(sys.argv[2]) / hashlib.sha1(data).hexdigest()).write_bytes(data)
PYTHON
}

# run FOLDER NAME: from the kept inputs on.
run() {
    local corpus="$1/corpus/$2" artifacts="$1/artifacts/$2/"
    mkdir -p "$artifacts"
    unpack "$1" "$2" "$corpus" || return
    "$target/$triple/release/$2" "$corpus" -artifact_prefix="$artifacts" -max_total_time="$seconds" \
        -runs="${RUNS:--1}" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 2>&1 |
        grep -E '^(==|SUMMARY|stat::(number_of|average)|thread .*panicked|Done|#[0-9]+[[:space:]]+(INITED|DONE)|artifact_prefix)'
    return "${PIPESTATUS[0]}"
}

# keep FOLDER NAME: adds to the kept inputs what reaches more, shortest first. Nothing that is kept goes: it may be a bug's.
keep() {
    local corpus="$1/corpus/$2" chosen kept="$1/../tests/corpus/$2.txt"
    [ -d "$corpus" ] || return 0
    chosen=$(mktemp -d)
    unpack "$1" "$2" "$chosen" &&
        "$target/$triple/release/$2" -merge=1 "$chosen" "$corpus" 2>&1 | grep -E '^MERGE-OUTER: .* new files' &&
        python3 - "$kept" "$chosen" <<'PYTHON'
import pathlib, sys
kept = pathlib.Path(sys.argv[1])
old = kept.read_text().splitlines() if kept.exists() else []
new = {path.read_bytes().hex() for path in pathlib.Path(sys.argv[2]).iterdir()} - set(old) - {""}
kept.write_text("".join(line + "\n" for line in old + sorted(new, key=lambda line: (len(line), line))))
PYTHON
    rm -rf "$chosen"
}

for source in */fuzz/fuzz_targets/*.rs; do
    folder=$(dirname "$(dirname "$source")")
    name=$(basename "$source" .rs)
    title="$(dirname "$folder")/$name"
    [[ $title == *$word* ]] || continue
    echo "== $title"
    if ! build "$folder" "$name"; then
        failures+=("$title does not build")
    elif [ "$seconds" = keep ]; then
        keep "$folder" "$name" || failures+=("$title: nothing could be kept")
    elif [ "$seconds" -gt 0 ] && ! run "$folder" "$name"; then
        failures+=("$title fails")
    fi
done
[ ${#failures[@]} -eq 0 ] || { printf '%s\n' "${failures[@]}"; exit 1; }
