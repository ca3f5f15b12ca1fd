//! The types that every schema has, and what containers make of others.

use super::{QapiType, Schema, TypeName};
use crate::registry::{NoArguments, Version};
use serde_json::Value;

macro_rules! builtin {
    ($name:literal, $json:literal: $($Type:ty),+) => {
        $(impl QapiType for $Type {
            fn describe(schema: &mut Schema) -> TypeName {
                schema.builtin($name, $json)
            }
        })+
    };
}

builtin!("str", "string": String, str);
builtin!("bool", "boolean": bool);
builtin!("int", "int": i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);
builtin!("number", "number": f32, f64);
builtin!("any", "value": Value);

impl<T: QapiType + ?Sized> QapiType for &T {
    fn describe(schema: &mut Schema) -> TypeName {
        T::describe(schema)
    }
}

impl<T: QapiType + ?Sized> QapiType for Box<T> {
    fn describe(schema: &mut Schema) -> TypeName {
        T::describe(schema)
    }
}

impl<T: QapiType> QapiType for Option<T> {
    const OPTIONAL: bool = true;

    fn describe(schema: &mut Schema) -> TypeName {
        T::describe(schema)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: QapiType> QapiType for Vec<T> {
    fn describe(schema: &mut Schema) -> TypeName {
        let element = T::describe(schema);
        schema.array(element)
    }
}

/// What a command without a result answers with.
impl QapiType for () {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.empty()
    }
}

impl QapiType for NoArguments {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.empty()
    }
}

crate::qapi! {
    /// Three numbers of a version.
    #[derive(serde::Serialize)]
    pub(crate) struct VersionTriple {
        pub(crate) major: u32,
        pub(crate) minor: u32,
        pub(crate) micro: u32,
    }
}

impl QapiType for Version {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.object::<Self>(|object| {
            object
                .member::<VersionTriple>("qemu")
                .member::<String>("package");
        })
    }
}
