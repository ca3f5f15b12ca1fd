# The project's commands. `make test` and `cargo run --release -p vmm-bin` are the two to begin with.

.PHONY: help test rig bench fuzz soak

help:
	@echo 'make test    check everything: format, lints, docs, all tests, Linux guests in the rig'
	@echo 'make rig     a shell in a Linux guest, in vmm-bin, in the emulated machine'
	@echo 'make bench   measure; ratios to a floor or to QEMU, both sides in one run'
	@echo 'make fuzz    build every fuzz target; with SECONDS=60, also run each for so long'
	@echo 'make soak    what soaks there are; with NAME=chaos, run that one'

test:
	@integration-tests/test.sh

rig:
	@integration-tests/run shell

bench:
	@integration-tests/bench.sh

fuzz:
	@integration-tests/fuzz.sh $(SECONDS)

soak:
	@integration-tests/soak.sh $(NAME)
