//! Dispatch against a plain loop over boxed closures.
fn main() {}
