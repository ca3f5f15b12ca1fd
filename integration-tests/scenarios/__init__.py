"""Tests with stock Linux as the guest: they need a KVM that runs 64-bit code, so they run in the rig."""
