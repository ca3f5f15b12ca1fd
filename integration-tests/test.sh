#!/bin/bash
# Everything that `make test` checks, in parts. A part that fails does not stop the others; the last line counts
# everything, and the exit status is 0 only if nothing failed.
#
#   integration-tests/test.sh            all parts
#   integration-tests/test.sh PART...    only these: see the functions `part_*` below
#
# A compiler and the emulator of the rig never run at the same time: both want all processors.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TERM_COLOR=never
logs=$CARGO_TARGET_DIR/test-logs
# Where every VM of a test leaves the trace of its lifecycle.
export LIFECYCLE_TRACES=$CARGO_TARGET_DIR/lifecycle-traces
passed=0 failed=0 skipped=0
failures=() skips=()
crates=(runstate notifiers lifecycle vcpu devices monitor vmm-bin)

say() { printf '\n== %s\n' "$*"; }

# log NAME: where the output of a part goes.
log() { echo "$logs/$(tr -cs 'a-z0-9\n-' '_' <<<"$1").log"; }

# check NAME COMMAND...: something that passes or fails as a whole.
check() {
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    if "$@" 2>&1 | tee "$(log "$name")"; then
        passed=$((passed + 1))
        echo "   passed in $((SECONDS - begin)) s"
    else
        failed=$((failed + 1))
        failures+=("$name")
        echo "   FAILED in $((SECONDS - begin)) s"
    fi
}

# tests NAME COMMAND...: a command that prints the counts of cargo's test harness, as often as it likes.
#
# A test that could not run on this machine is reported as ignored with its reason, or passes and prints a line that
# begins with `skipped`: that one is taken from those that passed.
tests() {
    local name=$1 begin=$SECONDS status log good bad mute
    log=$(log "$name")
    shift
    say "$name"
    "$@" 2>&1 | tee "$log" | grep --line-buffered -E "$worth_seeing"
    status=${PIPESTATUS[0]}
    # `test result: ok. 3 passed; 0 failed; 1 ignored; ...`
    read -r good bad mute < <(awk '/^test result: /{p += $4; f += $6; i += $8} END {print p + 0, f + 0, i + 0}' "$log")
    while IFS= read -r line; do
        skips+=("$name: $line")
    done < <(sed -n 's/^test \(.*\) \.\.\. ignored\(, \(.*\)\)\{0,1\}$/\1: \3/p' "$log")
    while IFS= read -r line; do
        skips+=("$name: $line")
        good=$((good - 1)) mute=$((mute + 1))
    done < <(awk '/^---- .* stdout ----$/ {test = $2} tolower($0) ~ /^skipped[: ]/ {sub(/^[^: ]*:? */, ""); print test ": " $0}' "$log")
    if [ "$bad" -gt 0 ]; then
        while IFS= read -r line; do
            failures+=("$name: $line")
        done < <(sed -n 's/^test \(.*\) \.\.\. FAILED.*$/\1/p' "$log")
        sed -n '/^failures:$/,/^test result/p; /^test .* FAILED (/,/^test result/p' "$log" | head -n 300
    elif [ "$status" -ne 0 ]; then
        # It did not compile, or ended before it could count.
        bad=1
        failures+=("$name: exit status $status")
        tail -n 40 "$log"
    elif [ $((good + mute)) -eq 0 ]; then
        # Silence is no success.
        bad=1
        failures+=("$name: ran no test")
    fi
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + mute))
    echo "   $good passed, $bad failed, $mute skipped in $((SECONDS - begin)) s"
}

# Of a test run's output; all of it is in the log.
worth_seeing='^(error: (could not|test failed|no such)|note:|test result:| +(Running|Doc-tests) |[Ss][Kk][Ii][Pp][Pp][Ee][Dd][: ])|^test .*( FAILED| ignored| s\)$)'

# skip NAME REASON: a test that this machine cannot run.
skip() {
    say "$1"
    echo "   skipped: $2"
    skipped=$((skipped + 1))
    skips+=("$1: $2")
}

# What must be installed, and why. Rust itself is not ours to install.
packages() {
    cat <<'LIST'
gcc linker for Rust, assembler of the small guests
libc6-dev the C library to link with
python3 runs the whole-VM tests
python3-venv keeps qemu.qmp, QEMU's own QMP client, apart from the system
qemu-system-x86 emulates the machine in which /dev/kvm runs 64-bit guests, and is what benchmarks compare with
seabios firmware for that, and a guest for --firmware
busybox-static userspace of the Linux guest
cpio packs the guests' root file systems
lz4 unpacks the kernel image of Debian 12
zstd unpacks the kernel image of other releases
gdb attaches to guests by --gdb
acpica-tools iasl checks the ACPI tables
socat types at the monitor as the README says
strace writes down which system calls the threads of vmm-bin make
LIST
}

part_install() {
    say "what must be installed"
    if ! command -v dpkg-query >/dev/null; then
        echo "   this is no Debian: these must be there"
        packages
        return
    fi
    local missing=() name why sudo=()
    while read -r name why; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" != installed ]; then
            echo "   $name is missing: $why"
            missing+=("$name")
        fi
    done < <(packages)
    [ ${#missing[@]} -eq 0 ] && { echo "   all there"; return; }
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get -qq update </dev/null
    "${sudo[@]}" apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null || {
        failed=$((failed + 1))
        failures+=("apt-get install ${missing[*]}")
    }
}

part_format() { check "format" cargo fmt --all --check -- --color never; }

part_lint() {
    check "clippy, all features" cargo clippy -q --locked --workspace --all-targets --all-features -- -D warnings
    check "clippy, no features" cargo clippy -q --locked --workspace --all-targets --no-default-features -- -D warnings
}

part_dependencies() { check "dependencies" /usr/bin/python3 integration-tests/dependencies.py; }

part_doc() {
    RUSTDOCFLAGS="-D warnings" check "documentation" cargo doc -q --locked --workspace --no-deps --all-features
    check "what the soaks take for a leak" env PYTHONPATH=integration-tests python3 -m doctest integration-tests/harness/trend.py
    check "what the documents name" /usr/bin/python3 integration-tests/documents.py
}

part_panics() { check "no call that panics in runstate, notifiers, lifecycle" integration-tests/panics.sh; }

part_freestanding() { check "runstate and notifiers without the standard library" integration-tests/freestanding.sh; }

# vmm-bin as a user gets it: the whole-VM tests and the rig run this one.
part_build() {
    check "vmm-bin, release" cargo build -q --release --locked -p vmm-bin
    export VMM_BIN=${VMM_BIN:-$CARGO_TARGET_DIR/release/vmm-bin}
}

# qemu.qmp drives the monitor's own tests, too: this is the Python that has it.
qmp_python() {
    QMP_PYTHON=${QMP_PYTHON:-$(integration-tests/run python)}
    export QMP_PYTHON
}

# Unit, property, integration and doc tests of all crates; among them the whole-VM tests.
part_tests() {
    qmp_python
    rm -rf "$LIFECYCLE_TRACES"
    mkdir -p "$LIFECYCLE_TRACES"
    tests "all crates, all features" cargo test --locked --workspace --all-features --no-fail-fast -- --show-output
}

# Each crate alone: cargo then gives it no feature that only a sibling asked for. A crate without features was tested
# in that very configuration by the part before; it must still build without the others.
part_alone() {
    local crate feature list
    qmp_python
    for crate in "${crates[@]}"; do
        list=$(features "$crate")
        if [ -z "$list" ]; then
            check "$crate alone" cargo check -q --locked -p "$crate" --all-targets
            continue
        fi
        tests "$crate alone" cargo test --locked -p "$crate" --no-default-features --no-fail-fast -- --show-output
        for feature in $list; do
            tests "$crate with $feature" cargo test --locked -p "$crate" --no-default-features --features "$feature" \
                --lib --bins --tests --no-fail-fast -- --show-output
        done
    done
}

# features CRATE: the names of its features, from cargo.
features() {
    cargo metadata --format-version 1 --no-deps --locked | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == sys.argv[1]:
        print(*(f for f in sorted(package["features"]) if f != "default"))' "$1"
}

# Model checkers replace the standard library's atomics, so their builds are apart; and they run for longer than they build.
part_models() {
    local crate model options
    while read -r crate model options; do
        # shellcheck disable=SC2086 # the options are words
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            RUSTFLAGS="--cfg $model" tests "$crate under $model" \
            cargo test --locked --release -p "$crate" --test "$model" $options --target-dir "$CARGO_TARGET_DIR/$model" </dev/null
    done <<'LIST'
runstate loom
lifecycle loom
vcpu loom
vcpu shuttle --features test-utilities
LIST
}

# Linux as the guest.
part_rig() {
    mkdir -p "$LIFECYCLE_TRACES"
    if [ "$(uname -m)" != x86_64 ]; then
        skip "the rig" "it emulates AMD's SVM for an x86-64 host binary, and this is $(uname -m)"
        return
    fi
    check "what the rig takes for a broken guest" env PYTHONPATH=integration-tests python3 -m doctest integration-tests/harness/frozen.py
    tests "Linux guests" integration-tests/run scenarios
}

# Which edges of the run states all the VMs of the parts before have taken: the last part, for it reads what they left.
part_edges() {
    check "edges of the run states" cargo run -q --locked -p integration-tests --bin edges -- "$LIFECYCLE_TRACES"
}

mkdir -p "$logs"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(install format dependencies build lint doc tests alone panics freestanding models rig edges)
for part in "${parts[@]}"; do
    "part_$part"
done

if [ ${#skips[@]} -gt 0 ]; then
    say "skipped"
    printf '   %s\n' "${skips[@]}"
fi
if [ ${#failures[@]} -gt 0 ]; then
    say "failed"
    printf '   %s\n' "${failures[@]}"
fi
echo
echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s; logs are in $logs"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
