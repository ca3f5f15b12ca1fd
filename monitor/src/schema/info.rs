//! The entries of `query-qmp-schema`.

use super::{QapiType, Schema, TypeName};
use serde_json::Value;

/// One entry: QAPI's `SchemaInfo`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Entity {
    pub(super) name: TypeName,
    #[serde(flatten)]
    pub(super) info: Info,
}

/// What an entry says beside its name.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "meta-type", rename_all = "kebab-case")]
pub(super) enum Info {
    Builtin(Builtin),
    Enum(Enum),
    Array(Array),
    Object(ObjectInfo),
    Command(CommandEntry),
    Event(EventEntry),
}

/// The kinds of entries. It is `Info` that carries the value.
struct MetaType;

impl QapiType for MetaType {
    fn describe(schema: &mut Schema) -> TypeName {
        let kinds = ["builtin", "enum", "array", "object", "command", "event"];
        schema.enumeration::<Self>(&kinds)
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct Builtin {
        pub(super) json_type: &'static str,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct Enum {
        pub(super) members: Vec<EnumMember>,
        pub(super) values: Vec<String>,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct EnumMember {
        pub(super) name: String,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct Array {
        pub(super) element_type: TypeName,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, Default, serde::Serialize)]
    pub(super) struct ObjectInfo {
        pub(super) members: Vec<Member>,
        pub(super) tag: Option<String>,
        pub(super) variants: Option<Vec<Variant>>,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct Member {
        pub(super) name: String,
        pub(super) r#type: TypeName,
        pub(super) default: Option<Value>,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct Variant {
        pub(super) case: String,
        pub(super) r#type: TypeName,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct CommandEntry {
        pub(super) arg_type: TypeName,
        pub(super) ret_type: TypeName,
        pub(super) allow_oob: Option<bool>,
    }
}

crate::qapi! {
    #[derive(Clone, Debug, serde::Serialize)]
    pub(super) struct EventEntry {
        pub(super) arg_type: TypeName,
    }
}

impl QapiType for Entity {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.object::<Self>(|object| {
            object
                .member::<String>("name")
                .member::<MetaType>("meta-type")
                .tag("meta-type")
                .variant::<Builtin>("builtin")
                .variant::<Enum>("enum")
                .variant::<Array>("array")
                .variant::<ObjectInfo>("object")
                .variant::<CommandEntry>("command")
                .variant::<EventEntry>("event");
        })
    }
}
