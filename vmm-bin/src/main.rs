//! The reference virtual machine monitor on KVM.

fn main() {}
