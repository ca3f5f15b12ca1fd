"""Tests of a VM that only make sense over hours: `soak.sh` runs them, `make test` does not."""
