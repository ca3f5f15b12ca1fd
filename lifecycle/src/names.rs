//! Enums with QAPI's spelling: one macro, so that a name is written once.

use core::fmt;

/// No member of the enum has this name. The message lists those that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownName {
    pub(crate) what: &'static str,
    pub(crate) names: &'static [&'static str],
}

impl UnknownName {
    /// The names that exist.
    #[must_use]
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such {}: expected one of ", self.what)?;
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownName {}

macro_rules! qapi_enum {
    (
        $(#[$meta:meta])*
        $what:literal
        pub enum $Enum:ident {
            $( $(#[$member_meta:meta])* $Member:ident = $name:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $Enum {
            $( $(#[$member_meta])* $Member ),+
        }

        impl $Enum {
            /// Every member, in QAPI's order.
            pub const ALL: &'static [Self] = &[$( Self::$Member ),+];

            /// QAPI's spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$Member => $name ),+
                }
            }

            /// The member at this position of [`Self::ALL`].
            #[must_use]
            pub fn from_index(index: u8) -> Option<Self> {
                Self::ALL.get(usize::from(index)).copied()
            }

            /// The position in [`Self::ALL`].
            #[must_use]
            pub const fn index(self) -> u8 {
                self as u8
            }
        }

        impl ::core::fmt::Display for $Enum {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::core::str::FromStr for $Enum {
            type Err = $crate::names::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|member| member.as_str() == name)
                    .ok_or($crate::names::UnknownName { what: $what, names: &[$( $name ),+] })
            }
        }
    };
}
pub(crate) use qapi_enum;
