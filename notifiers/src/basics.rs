//! What all the lists can do besides calling: they are made, counted, cleared and printed alike.

/// Writes it for a list whose one field is `registry`. `$who` is what the list holds.
macro_rules! basics {
    ($list:ident<$event:ident $(, $error:ident)?>, $who:literal) => {
        impl<$event: ?Sized + 'static $(, $error: 'static)?> $list<$event $(, $error)?> {
            /// An empty list, with [`DEFAULT_MAX_NESTING`](crate::DEFAULT_MAX_NESTING).
            #[must_use]
            pub fn new() -> Self {
                Self::with_max_nesting(crate::DEFAULT_MAX_NESTING)
            }

            /// An empty list of which `limit` rounds, whichever way they go, may be under way at a time.
            #[doc = concat!("With 1, no ", $who, " can begin another; with 0, nobody can begin any.")]
            #[must_use]
            pub fn with_max_nesting(limit: u32) -> Self {
                let registry = alloc::rc::Rc::new(crate::registry::Registry::new(limit));
                Self { registry }
            }

            #[doc = concat!("How many ", $who, "s there are.")]
            #[must_use]
            pub fn len(&self) -> usize {
                self.registry.len()
            }

            /// Whether there are none.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            #[doc = concat!("Removes every ", $who, ", detached ones too.")]
            /// Handles that are still held come to nothing.
            pub fn clear(&self) {
                self.registry.clear();
            }
        }

        impl<$event: ?Sized + 'static $(, $error: 'static)?> Default for $list<$event $(, $error)?> {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<$event: ?Sized $(, $error)?> core::fmt::Debug for $list<$event $(, $error)?> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($list))
                    .field("len", &self.registry.len())
                    .field("rounds_under_way", &self.registry.rounds())
                    .finish()
            }
        }
    };
}
