#!/bin/bash
# Measures: each crate's own benchmarks, then the whole VM, then Linux in the rig. Every side of a comparison runs in the
# same run, and ratios are what is printed for.
#
#   integration-tests/bench.sh             all
#   integration-tests/bench.sh NAME...     only these: a crate, whole-vm, rig
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(runstate notifiers lifecycle vcpu devices monitor vmm-bin whole-vm rig)
status=0
build_vmm() {
    [ -n "${VMM_BIN:-}" ] && return
    cargo build -q --release --locked -p vmm-bin || exit 1
    export VMM_BIN=$CARGO_TARGET_DIR/release/vmm-bin
}
for name in "${names[@]}"; do
    case $name in
    whole-vm)
        printf '\n== the whole VM\n'
        build_vmm
        SPIN_GUEST=$(integration-tests/run assemble spin) cargo bench -q --locked -p integration-tests || status=1
        ;;
    rig)
        printf '\n== Linux, in the rig\n'
        build_vmm
        for image in vmlinux bzImage; do
            integration-tests/run job python3 -m benches.linux_boot $image || status=1
        done
        integration-tests/run job python3 -m benches.linux_cycle || status=1
        ;;
    *)
        compgen -G "$name/benches/*.rs" >/dev/null || continue
        printf '\n== %s\n' "$name"
        cargo bench -q --locked -p "$name" --all-features --benches || status=1
        ;;
    esac
done
exit $status
