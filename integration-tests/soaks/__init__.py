"""Tests of a VM that take too long for `make test`: `soak.sh` runs them."""
