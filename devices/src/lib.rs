//! Three-phase device reset and the legacy devices that a guest's power paths need.
