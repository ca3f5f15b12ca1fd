//! A schema while it is being put together.

use super::QapiType;
use super::info::{
    Array, Builtin, CommandEntry, Entity, Enum, EnumMember, EventEntry, Info, Member, ObjectInfo,
    Variant,
};
use serde_json::Value;
use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet};

/// A type's name in a schema: a built-in type's own, or a number that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct TypeName(String);

impl TypeName {
    /// The name as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl QapiType for TypeName {
    fn describe(schema: &mut Schema) -> TypeName {
        String::describe(schema)
    }
}

/// Commands, events, and every type that they use, each once.
#[derive(Debug)]
pub struct Schema {
    entities: Vec<Entity>,
    types: Vec<Entity>,
    /// Names of objects and enums by their Rust types.
    known: BTreeMap<&'static str, TypeName>,
    /// Built-in types and arrays, which have no number.
    plain: BTreeSet<TypeName>,
    next: usize,
}

impl Schema {
    /// A schema with nothing but the object without members.
    pub(crate) fn new() -> Self {
        let mut schema = Schema {
            entities: Vec::new(),
            types: Vec::new(),
            known: BTreeMap::new(),
            plain: BTreeSet::new(),
            next: 0,
        };
        let name = schema.number();
        schema.add(name, Info::Object(ObjectInfo::default()));
        schema
    }

    /// The object without members: no arguments, no result, no data.
    #[must_use]
    pub fn empty(&self) -> TypeName {
        TypeName("0".to_owned())
    }

    /// A type of which nothing is said.
    pub(crate) fn any(&mut self) -> TypeName {
        Value::describe(self)
    }

    /// One of QAPI's own types.
    pub(super) fn builtin(&mut self, name: &str, json_type: &'static str) -> TypeName {
        self.plain(name.to_owned(), Info::Builtin(Builtin { json_type }))
    }

    /// A list.
    pub fn array(&mut self, element: TypeName) -> TypeName {
        let name = format!("[{}]", element.0);
        self.plain(
            name,
            Info::Array(Array {
                element_type: element,
            }),
        )
    }

    /// An enumeration with these values. `T` tells it from others.
    pub fn enumeration<T: ?Sized>(&mut self, values: &[&str]) -> TypeName {
        let values: Vec<_> = values.iter().map(|&value| value.to_owned()).collect();
        self.numbered::<T>(|_| {
            let members = values.iter().cloned().map(|name| EnumMember { name });
            Info::Enum(Enum {
                members: members.collect(),
                values,
            })
        })
    }

    /// An object whose members `fill` adds. `T` tells it from others, and may contain itself.
    pub fn object<T: ?Sized>(&mut self, fill: impl FnOnce(&mut Object<'_>)) -> TypeName {
        self.numbered::<T>(|schema| {
            let info = ObjectInfo::default();
            let mut object = Object { schema, info };
            fill(&mut object);
            Info::Object(object.info)
        })
    }

    pub(crate) fn command(&mut self, name: &str, types: [TypeName; 2], allow_oob: bool) {
        let [arg_type, ret_type] = types;
        let allow_oob = allow_oob.then_some(true);
        self.entities.push(Entity {
            name: TypeName(name.to_owned()),
            info: Info::Command(CommandEntry {
                arg_type,
                ret_type,
                allow_oob,
            }),
        });
    }

    pub(crate) fn event(&mut self, name: &str, arg_type: TypeName) {
        self.entities.push(Entity {
            name: TypeName(name.to_owned()),
            info: Info::Event(EventEntry { arg_type }),
        });
    }

    /// The members of `T` that may not be left out, if it is an object.
    pub(crate) fn required_members<T: QapiType>() -> Vec<String> {
        let mut schema = Schema::new();
        let name = T::describe(&mut schema);
        let mut types = schema.types.into_iter();
        match types
            .find(|entity| entity.name == name)
            .map(|entity| entity.info)
        {
            Some(Info::Object(object)) => {
                let required = object.members.into_iter();
                let required = required.filter(|member| member.default.is_none());
                required.map(|member| member.name).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Commands and events, then the types.
    pub(crate) fn into_entities(self) -> Vec<Entity> {
        let mut entities = self.entities;
        entities.extend(self.types);
        entities
    }

    fn plain(&mut self, name: String, info: Info) -> TypeName {
        let name = TypeName(name);
        if self.plain.insert(name.clone()) {
            self.add(name.clone(), info);
        }
        name
    }

    fn numbered<T: ?Sized>(&mut self, info: impl FnOnce(&mut Self) -> Info) -> TypeName {
        let identity = type_name::<T>();
        if let Some(name) = self.known.get(identity) {
            return name.clone();
        }
        // Known before it is described: a type that contains itself ends here.
        let name = self.number();
        self.known.insert(identity, name.clone());
        let info = info(self);
        self.add(name.clone(), info);
        name
    }

    fn number(&mut self) -> TypeName {
        let name = TypeName(self.next.to_string());
        self.next = self.next.saturating_add(1);
        name
    }

    fn add(&mut self, name: TypeName, info: Info) {
        self.types.push(Entity { name, info });
    }
}

/// An object while its members are added.
#[derive(Debug)]
pub struct Object<'a> {
    schema: &'a mut Schema,
    info: ObjectInfo,
}

impl Object<'_> {
    /// Adds a member. It is optional if `T` is an `Option`.
    pub fn member<T: QapiType>(&mut self, name: impl Into<String>) -> &mut Self {
        let r#type = T::describe(self.schema);
        self.info.members.push(Member {
            name: name.into(),
            r#type,
            default: T::OPTIONAL.then_some(Value::Null),
        });
        self
    }

    /// Makes it a union: the value of this member, an enum, says which variant's members it has.
    pub fn tag(&mut self, member: impl Into<String>) -> &mut Self {
        self.info.tag = Some(member.into());
        self.info.variants.get_or_insert_default();
        self
    }

    /// Adds what a union has besides when its tag is `case`.
    pub fn variant<T: QapiType>(&mut self, case: impl Into<String>) -> &mut Self {
        let r#type = T::describe(self.schema);
        let case = case.into();
        let variants = self.info.variants.get_or_insert_default();
        variants.push(Variant { case, r#type });
        self
    }
}
