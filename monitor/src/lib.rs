//! A QMP server for virtual machine monitors.
