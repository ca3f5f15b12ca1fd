//! Whole-VM tests and the nested-KVM rig.

pub mod edges;
