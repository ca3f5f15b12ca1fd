#!/bin/bash
# Soaks: tests that `make test` runs too, or the fuzz targets, at a size for which it has no time; and what only makes sense long.
#
#   integration-tests/soak.sh                                       the names, and what each does
#   integration-tests/soak.sh NAME... >>integration-tests/SOAKS.md  runs these; `all` runs them all
#
# What passes prints a row of the table of SOAKS.md to standard output: all else goes to standard error, and all that was said
# is in soak-logs of the target folder. The variables named below set the sizes; what stands there is the soak's.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} CARGO_TERM_COLOR=never
logs=$CARGO_TARGET_DIR/soak-logs
status=0

# NAME, what it does
soaks() {
    cat <<'LIST'
fuzz         each fuzz target, RUNS=10000000 executions or FUZZ_SECONDS=3600; FUZZ_WORD= selects as fuzz.sh does
loom         the vCPUs' kick protocol in every interleaving of one pause: no bound on preemptions
shuttle      SHUTTLE_SCHEDULES=100000 random schedules, and as many of PCT, of each test of vCPUs
lifecycle    LIFECYCLE_SCENARIOS=1000000 random scenarios against the reference
edges        random triples of triggers against the table: WIDE_NET=20 times as many
monitor      the full loads of the monitor's tests
pauses       a million pauses of each kind of guest: VCPU_SOAK=100 times what a test does
resets       RESETS=100000 resets of a VM, and nothing is left of them
chaos        CHAOS_SECONDS=600 of guests and clients that ask for everything at once, in each of three tests
hammer       HAMMER_SECONDS=600 of a guest that reads and writes at random
powers       POWERS_SECONDS=600 of a guest at the power registers
load         the monitor of a VM under LOAD=16 times the load
endings      ENDINGS=2000 ends of the program at a random time
mutants      bugs that cargo-mutants makes in runstate, notifiers and lifecycle: the tests find nine of ten; SHARD=0/8 takes an eighth
breakpoints  gdb's software breakpoints in Linux, in Bochs: some minutes
endurance    ENDURANCE_SECONDS=7200 of one VM under everything: no slope of its memory, no descriptor and no thread more
ports        PORT_PAUSES=5000 stops at each port that a guest uses
LIST
}

# row COMMIT NAME SECONDS LOAD FIGURES: for the table.
row() {
    local processor
    processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$(date -u +%F)" "$1" "$2" \
        "$(nproc) x $processor, Linux $(uname -r)" "$4 to $(load)" "$3" "$5"
}

commit() {
    printf '%s%s' "$(git rev-parse --short HEAD)" \
        "$([ -z "$(git status --porcelain -- '*.rs' '*.toml' '*.py' '*.S' Cargo.lock)" ] || echo ' and changes')"
}

load() { cut -d' ' -f1 /proc/loadavg; }

# soak NAME FIGURES COMMAND...: runs it, and hands what it said to FIGURES.
soak() {
    local name=$1 figures=$2 log=$logs/${1//[^a-z0-9_]/-}.log begin=$SECONDS commit before said
    shift 2
    commit=$(commit) before=$(load)
    printf '== %s\n' "$name" >&2
    if "$@" >"$log" 2>&1 </dev/null && said=$($figures <"$log") && [ -n "$said" ]; then
        row "$commit" "$name" $((SECONDS - begin)) "$before" "$said"
    else
        status=1
        tail -n 40 "$log" >&2
        printf '== %s FAILED after %s s: %s\n' "$name" $((SECONDS - begin)) "$log" >&2
    fi
}

# Figures: of cargo's harness and of ours, of loom's models, of libFuzzer. Nothing that was run is no success.
passed() { awk '/^test result: ok/ {n += $4} END {if (n) print n " tests passed"}'; }
sized() { passed | sed "/./s/\$/, $1/"; }
executions() { awk '/ executions$/ {n += $(NF - 1); if ($(NF - 1) > m) m = $(NF - 1)} END {if (n) print n " executions in all, " m " of the largest model"}'; }
fuzzed() {
    awk '/number_of_executed_units/ {n = $2} /average_exec_per_sec/ {s = $2} /new_units_added/ {u = $2}
        END {if (n) print n " executions, " s " a second, 0 failures"}'
}

models() { # MODEL PACKAGE OPTIONS...
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        RUSTFLAGS="--cfg $1" cargo test --locked --release -p "$2" --test "$1" --target-dir "$CARGO_TARGET_DIR/$1" "${@:3}"
}

# Whole VMs, with the program as a user gets it.
whole_vm() { vms whole-vm "$@"; }
vms() { # FOLDER WORD...
    if [ -z "${VMM_BIN:-}" ]; then
        cargo build -q --release --locked -p vmm-bin || return
        export VMM_BIN=$CARGO_TARGET_DIR/release/vmm-bin
    fi
    integration-tests/run "$@"
}
# Also what the tests themselves count.
told() { awk '/^test result: ok/ {n = $4} /^[a-z]+: / {said = said "; " $0} END {if (n) print n " tests passed" said}'; }

soak_fuzz() {
    local source target
    for source in */fuzz/fuzz_targets/*.rs; do
        target=${source%%/*}/$(basename "$source" .rs)
        [[ $target == *${FUZZ_WORD:-}* ]] || continue
        RUNS=${RUNS:-10000000} soak "fuzz $target" fuzzed integration-tests/fuzz.sh "${FUZZ_SECONDS:-3600}" "$target"
    done
}
soak_loom() {
    LOOM_UNBOUNDED=1 soak loom executions models loom vcpu -- --nocapture --exact protocol::one_vcpu_one_cycle
}
soak_shuttle() {
    local count=${SHUTTLE_SCHEDULES:-100000}
    schedules() { sized "$count random and $count PCT schedules each"; }
    SHUTTLE_SCHEDULES=$count soak shuttle schedules models shuttle vcpu --features test-utilities
}
soak_lifecycle() {
    local count=${LIFECYCLE_SCENARIOS:-1000000} seed=${LIFECYCLE_SEED:-$(date +%s)}
    scenarios() { sized "$count scenarios from the seed $seed"; }
    LIFECYCLE_SCENARIOS=$count LIFECYCLE_SEED=$seed soak lifecycle scenarios \
        cargo test --locked -p lifecycle --test sequences long_scenarios
}
soak_edges() {
    drawn() { sized "${WIDE_NET:-20} times as many triples"; }
    WIDE_NET=${WIDE_NET:-20} soak edges drawn cargo test --locked -p vmm-bin --test wide_net
}
soak_monitor() { MONITOR_LOAD=full soak monitor passed cargo test --locked -p monitor --all-features --test load; }
soak_pauses() {
    local factor=${VCPU_SOAK:-100}
    cycles() { sized "pauses: $factor x 10000 spinning, $factor x 2000 in port and in memory accesses, $factor x 1000 halted"; }
    VCPU_SOAK=$factor soak pauses cycles cargo test --locked -p vcpu --features kvm --test kvm pauses::
}
soak_resets() {
    cycles() { sized "$RESETS resets"; }
    export RESETS=${RESETS:-100000}
    soak resets cycles whole_vm leaks::a_thousand_resets
}
soak_chaos() { CHAOS_SECONDS=${CHAOS_SECONDS:-600} soak chaos told whole_vm chaos::; }
soak_hammer() { HAMMER_SECONDS=${HAMMER_SECONDS:-600} soak hammer told whole_vm hammer::; }
soak_powers() { POWERS_SECONDS=${POWERS_SECONDS:-600} soak powers told whole_vm powers::; }
soak_load() {
    times() { sized "$LOAD times the load"; }
    export LOAD=${LOAD:-16}
    soak load times whole_vm load::
}
soak_endings() {
    ends() { sized "$ENDINGS ends"; }
    export ENDINGS=${ENDINGS:-2000}
    soak endings ends whole_vm endings::
}
soak_ports() {
    stops() { sized "$PORT_PAUSES stops at each port"; }
    export PORT_PAUSES=${PORT_PAUSES:-5000}
    soak ports stops whole_vm interrupted::stops_while
}
soak_breakpoints() { soak breakpoints told vms soaks breakpoints::; }
soak_endurance() { soak endurance told vms soaks endurance::; }

# mutants CRATE: against its tests, but for the exhaustive ones, loom's, and those that run the compiler: too slow, once a mutant.
mutants() {
    local file name tests=() found=$CARGO_TARGET_DIR/mutants/$1
    for file in "$1"/tests/*.rs; do
        name=$(basename "$file" .rs)
        [[ $1/$name =~ ^(lifecycle/model|.*/loom|.*/compile_fail)$ ]] || tests+=(--test "$name")
    done
    rm -rf "$found"
    mkdir -p "$found"
    cargo mutants -p "$1" -j1 --minimum-test-timeout 60 --output "$found" ${SHARD:+--shard "$SHARD"} \
        -- --lib --examples "${tests[@]}"
    found=$found/mutants.out
    killed=$(cat "$found"/{caught,timeout}.txt | wc -l) missed=$(wc -l <"$found/missed.txt")
    cat "$found/missed.txt"
    echo "$killed killed, $missed not${SHARD:+, shard $SHARD}"
    [ $((killed * 10)) -ge $(((killed + missed) * 9)) ] && [ "$killed" -gt 0 ]
}
soak_mutants() {
    local crate
    command -v cargo-mutants >/dev/null || { echo 'cargo-mutants is missing: cargo install cargo-mutants --locked' >&2; status=1; return; }
    for crate in ${MUTANTS:-runstate notifiers lifecycle}; do
        LIFECYCLE_SCENARIOS=1000 soak "mutants of $crate" 'tail -n 1' mutants "$crate"
    done
}

[ $# -gt 0 ] || { soaks; exit 0; }
mkdir -p "$logs"
names=("$@")
[ "$1" != all ] || mapfile -t names < <(soaks | cut -d' ' -f1)
for name in "${names[@]}"; do
    if ! declare -F "soak_$name" >/dev/null; then
        printf 'no soak is called %s; there are:\n%s\n' "$name" "$(soaks)" >&2
        exit 2
    fi
done
for name in "${names[@]}"; do
    "soak_$name"
done
exit $status
