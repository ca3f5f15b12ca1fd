//! Introspection: what `query-qmp-schema` says, made from the types that the handlers use.
//!
//! ```text
//!   qapi! { struct ... }  ──▶ QapiType ──┐
//!   Command::described    ───────────────┼──▶ Schema ──▶ query-qmp-schema
//!   EventSpec::data       ───────────────┘    (names of types masked: "0", "1", "[1]")
//! ```
//!
//! The rule that must never be broken: **the schema and the wire come from one declaration**. The
//! macro [`qapi!`](crate::qapi) writes the serde attributes and the description together; a command
//! or an event that does not describe itself is of type `any`, and never of a guessed one.
//!
//! Source of the form: QEMU, `qapi/introspect.json`. Types of the VMM's own have decimal names, since
//! their real names are not part of the interface; `0` is the object without members.

mod builder;
mod builtins;
mod info;
mod macros;

pub use builder::{Object, Schema, TypeName};
pub(crate) use builtins::VersionTriple;
pub(crate) use info::Entity;
pub use macros::{field_name, variant_name};

/// How a type adds itself to a schema.
pub(crate) type Describe = fn(&mut Schema) -> TypeName;

/// A type that a client can learn about: an argument, a result, the data of an event, or a part of
/// one.
///
/// Structs and enums get it from [`qapi!`](crate::qapi). It is written by hand only for a union, or
/// for a type of another crate: [`Schema::object`], [`Schema::enumeration`].
pub trait QapiType {
    /// Whether a member of this type may be left out. True of `Option` alone.
    const OPTIONAL: bool = false;

    /// Adds the type, and all that it consists of, and returns its name there.
    fn describe(schema: &mut Schema) -> TypeName;

    /// Whether this value, as a member, is left out of what is sent.
    fn is_absent(&self) -> bool {
        false
    }
}
