//! `qapi!`: a struct or an enum, its serde attributes and its description, from one declaration.

/// Declares a struct or an enum whose JSON form and whose entry in the schema are the same thing.
///
/// Names are QAPI's: `cpu_index` becomes `cpu-index`, `HyperV` becomes `hyper-v`; `as "NAME"` gives
/// another one. A member of a type `Option` is optional: left out when it is `None`. Derive
/// `serde::Deserialize` for what a client sends and `serde::Serialize` for what it gets. Doc comments
/// and attributes are kept. The calling crate needs `serde`, and knows this crate as `monitor`.
///
/// ```
/// monitor::qapi! {
///     /// How fast it may go.
///     #[derive(Debug, serde::Deserialize, serde::Serialize)]
///     pub struct Speed {
///         percent: u8,
///         cpu_index: Option<u32>,
///         mode as "x-mode": Mode,
///     }
/// }
/// monitor::qapi! {
///     #[derive(Debug, serde::Deserialize, serde::Serialize)]
///     pub enum Mode { Quiet, FullBlast, V2 as "version-2" }
/// }
///
/// let speed = Speed { percent: 5, cpu_index: None, mode: Mode::FullBlast };
/// assert_eq!(serde_json::to_string(&speed)?, r#"{"percent":5,"x-mode":"full-blast"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[macro_export]
macro_rules! qapi {
    (@field $field:ident) => { $crate::schema::field_name(stringify!($field)) };
    (@field $field:ident $wire:literal) => { String::from($wire) };
    (@variant $variant:ident) => { $crate::schema::variant_name(stringify!($variant)) };
    (@variant $variant:ident $wire:literal) => { String::from($wire) };
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident $(as $wire:literal)? : $Type:ty ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[serde(rename_all = "kebab-case")]
        $vis struct $Name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "::monitor::QapiType::is_absent" $(, rename = $wire)?)]
                $field_vis $field: $Type,
            )*
        }

        impl $crate::QapiType for $Name {
            fn describe(schema: &mut $crate::schema::Schema) -> $crate::schema::TypeName {
                schema.object::<Self>(|object| {
                    $( object.member::<$Type>($crate::qapi!(@field $field $($wire)?)); )*
                })
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis enum $Name:ident {
            $( $(#[$variant_meta:meta])* $Variant:ident $(as $wire:literal)? ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[serde(rename_all = "kebab-case")]
        $vis enum $Name {
            $( $(#[$variant_meta])* $(#[serde(rename = $wire)])? $Variant, )+
        }

        impl $crate::QapiType for $Name {
            fn describe(schema: &mut $crate::schema::Schema) -> $crate::schema::TypeName {
                let values = [$( $crate::qapi!(@variant $Variant $($wire)?) ),+];
                schema.enumeration::<Self>(&values.each_ref().map(|value| value.as_str()))
            }
        }
    };
}

/// A field's name in JSON. For [`qapi!`](crate::qapi).
#[doc(hidden)]
#[must_use]
pub fn field_name(field: &str) -> String {
    field.trim_start_matches("r#").replace('_', "-")
}

/// An enum member's name in JSON. For [`qapi!`](crate::qapi).
#[doc(hidden)]
#[must_use]
pub fn variant_name(variant: &str) -> String {
    let mut name = String::with_capacity(variant.len().saturating_add(4));
    for character in variant.trim_start_matches("r#").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}
