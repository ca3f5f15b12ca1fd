"""Tests of the whole VMM with guests of 16- and 32-bit code: any KVM can run them."""
