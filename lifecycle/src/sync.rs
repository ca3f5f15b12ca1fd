//! The one place that knows which atomics the latches are made of: the real ones, or loom's.

#[cfg(loom)]
pub(crate) use self::model::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Loom's atomics, where a store is a swap that looks at nothing. Of a plain store that a swap on another thread did not
/// see, loom assumes that it may come before that swap all the same, and be overwritten; no memory model allows that.
#[cfg(loom)]
mod model {
    use super::Ordering;

    macro_rules! atomics {
        ($($name:ident of $value:ty),*) => {$(
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    let _unseen = self.0.swap(value, order);
                }
            }

            impl std::ops::Deref for $name {
                type Target = loom::sync::atomic::$name;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        )*};
    }
    atomics!(AtomicBool of bool, AtomicU8 of u8, AtomicU32 of u32, AtomicU64 of u64);
}
