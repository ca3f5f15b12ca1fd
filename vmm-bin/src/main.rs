//! The reference virtual machine monitor on KVM.

mod platform;

fn main() {}
