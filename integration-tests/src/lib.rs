//! Whole-VM tests and the nested-KVM rig.
