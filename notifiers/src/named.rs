//! A callback with the name that an error gives to it.

use alloc::borrow::Cow;

/// What is called, and what an error calls it.
pub(crate) struct Named<F: ?Sized> {
    pub(crate) name: Cow<'static, str>,
    pub(crate) inner: F,
}
