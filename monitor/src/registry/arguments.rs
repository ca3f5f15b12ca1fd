//! A command's arguments, from JSON to the types of its handler, with QAPI's error texts.
//!
//! Stricter than serde_json: a member that the type does not have is an error, and `null` is not
//! the same as absent.

use super::CommandError;
use super::argument_error::{ArgumentError, Fault, Step};
use crate::schema::{QapiType, Schema};
use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Map, Number, Value};

/// The arguments of a command that takes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NoArguments {}

/// Reads `arguments` as a `T`.
pub(crate) fn from_arguments<T: DeserializeOwned>(
    arguments: Map<String, Value>,
) -> Result<T, CommandError> {
    T::deserialize(Argument(Value::Object(arguments))).map_err(refused)
}

/// The same for a type that is described. Of several faults the one is reported that QAPI finds first:
/// members are looked at in the order of their declaration, whether they were sent or not.
pub(crate) fn from_described_arguments<T: DeserializeOwned + QapiType>(
    arguments: Map<String, Value>,
) -> Result<T, CommandError> {
    T::deserialize(Argument(Value::Object(arguments))).map_err(|error| {
        let required = match error.absent() {
            [] => Vec::new(),
            _ => Schema::required_members::<T>(),
        };
        let mut absent = error.absent().iter();
        match absent.find(|name| required.iter().any(|required| required == *name)) {
            Some(name) => refused(ArgumentError::at_member(Fault::Missing, name)),
            None => refused(error),
        }
    })
}

fn refused(error: ArgumentError) -> CommandError {
    CommandError::generic(error.to_string())
}

/// A JSON value that is to become an argument.
struct Argument(Value);

/// An integer type: visited if the number fits, refused with the type's C name if not. What is beyond
/// the widest type of its kind is refused as QAPI has it: above `int64_t` it is no integer at all, and
/// below zero it does not fit.
macro_rules! integer {
    ($($method:ident $visit:ident $type:ty, $name:literal, $get:ident, $beyond:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
            let number = match &self.0 {
                Value::Number(number) if !number.is_f64() => number,
                _ => return ArgumentError::of_type("integer"),
            };
            let Some(wide) = number.$get() else {
                return Err(ArgumentError::new($beyond($name)));
            };
            match <$type>::try_from(wide) {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(ArgumentError::new(Fault::Range($name))),
            }
        })*
    };
}

fn no_integer(_: &'static str) -> Fault {
    Fault::Type("integer")
}

impl<'de> Deserializer<'de> for Argument {
    type Error = ArgumentError;

    integer! {
        deserialize_i8 visit_i8 i8, "int8_t", as_i64, no_integer;
        deserialize_i16 visit_i16 i16, "int16_t", as_i64, no_integer;
        deserialize_i32 visit_i32 i32, "int32_t", as_i64, no_integer;
        deserialize_i64 visit_i64 i64, "int64_t", as_i64, no_integer;
        deserialize_u8 visit_u8 u8, "uint8_t", as_u64, Fault::Range;
        deserialize_u16 visit_u16 u16, "uint16_t", as_u64, Fault::Range;
        deserialize_u32 visit_u32 u32, "uint32_t", as_u64, Fault::Range;
        deserialize_u64 visit_u64 u64, "uint64_t", as_u64, Fault::Range;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Elements::new(items)),
            Value::Object(members) => visitor.visit_map(Members::all(members)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => ArgumentError::of_type("boolean"),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0.as_f64() {
            Some(value) => visitor.visit_f64(value),
            None => ArgumentError::of_type("number"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            _ => ArgumentError::of_type("string"),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            _ => ArgumentError::of_type("null"),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Elements::new(items)),
            _ => ArgumentError::of_type("array"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::Object(members) => visitor.visit_map(Members::all(members)),
            _ => ArgumentError::of_type("object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        let Value::Object(mut members) = self.0 else {
            return ArgumentError::of_type("object");
        };
        let sent: Vec<_> = fields
            .iter()
            .map(|name| members.contains_key(*name))
            .collect();
        let known = fields
            .iter()
            .filter_map(|name| members.remove_entry(*name))
            .collect();
        let value = visitor
            .visit_map(Members::new(known))
            .map_err(|error| error.lacking(&sent, fields))?;
        match members.keys().next() {
            Some(name) => Err(ArgumentError::at_member(Fault::Unexpected, name)),
            None => Ok(value),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            _ => ArgumentError::of_type("string"),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, ArgumentError> {
        visitor.visit_unit()
    }
}

fn visit_number<'de, V: Visitor<'de>>(
    number: &Number,
    visitor: V,
) -> Result<V::Value, ArgumentError> {
    if let Some(value) = number.as_i64() {
        visitor.visit_i64(value)
    } else if let Some(value) = number.as_u64() {
        visitor.visit_u64(value)
    } else {
        visitor.visit_f64(number.as_f64().unwrap_or_default())
    }
}

/// A list's elements, counted for the path of an error.
struct Elements {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl Elements {
    fn new(items: Vec<Value>) -> Self {
        Elements {
            items: items.into_iter().enumerate(),
        }
    }
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = ArgumentError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ArgumentError> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        let element = seed.deserialize(Argument(item));
        element
            .map(Some)
            .map_err(|error| error.within(Step::Element(index)))
    }
}

/// An object's members, in the order in which the type declares them.
struct Members {
    rest: std::vec::IntoIter<(String, Value)>,
    current: Option<(String, Value)>,
}

impl Members {
    fn new(members: Vec<(String, Value)>) -> Self {
        Members {
            rest: members.into_iter(),
            current: None,
        }
    }

    fn all(members: Map<String, Value>) -> Self {
        Members::new(members.into_iter().collect())
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = ArgumentError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ArgumentError> {
        self.current = self.rest.next();
        let Some((name, _)) = &self.current else {
            return Ok(None);
        };
        let name: StringDeserializer<ArgumentError> = name.clone().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, ArgumentError> {
        let (name, value) = self.current.take().unwrap_or_default();
        let value = seed.deserialize(Argument(value));
        value.map_err(|error| error.within(Step::Member(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Sample {
        enable: bool,
        cpu_index: Option<u8>,
        action: Option<Action>,
        list: Option<Vec<Action>>,
        inner: Option<Inner>,
        ratio: Option<f64>,
        any: Option<Value>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Action {
        Reset,
        PowerOff,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Inner {
        name: String,
        big: Option<i64>,
    }

    fn refused(arguments: Value) -> String {
        let Value::Object(arguments) = arguments else {
            panic!("an object is needed")
        };
        from_arguments::<Sample>(arguments)
            .expect_err("must be refused")
            .desc()
            .to_owned()
    }

    #[test]
    fn faults_are_reported_in_qapis_words() {
        for (arguments, text) in [
            (json!({}), "Parameter 'enable' is missing"),
            (json!({"foo": 1}), "Parameter 'enable' is missing"),
            (
                json!({"enable": true, "foo": 1}),
                "Parameter 'foo' is unexpected",
            ),
            (
                json!({"enable": 1}),
                "Invalid parameter type for 'enable', expected: boolean",
            ),
            (
                json!({"enable": null}),
                "Invalid parameter type for 'enable', expected: boolean",
            ),
            (
                json!({"enable": true, "cpu-index": "0"}),
                "Invalid parameter type for 'cpu-index', expected: integer",
            ),
            (
                json!({"enable": true, "cpu-index": null}),
                "Invalid parameter type for 'cpu-index', expected: integer",
            ),
            (
                json!({"enable": true, "cpu-index": 1.5}),
                "Invalid parameter type for 'cpu-index', expected: integer",
            ),
            (
                json!({"enable": true, "cpu-index": 256}),
                "Parameter 'cpu-index' expects uint8_t",
            ),
            (
                json!({"enable": true, "cpu-index": -1}),
                "Parameter 'cpu-index' expects uint8_t",
            ),
            (
                json!({"enable": true, "action": "bogus"}),
                "Parameter 'action' does not accept value 'bogus'",
            ),
            (
                json!({"enable": true, "action": {"reset": 1}}),
                "Invalid parameter type for 'action', expected: string",
            ),
            (
                json!({"enable": true, "list": ["reset", "bogus"]}),
                "Parameter 'null' does not accept value 'bogus'",
            ),
            (
                json!({"enable": true, "list": ["reset", 7]}),
                "Invalid parameter type for 'list[1]', expected: string",
            ),
            (
                json!({"enable": true, "list": {}}),
                "Invalid parameter type for 'list', expected: array",
            ),
            (
                json!({"enable": true, "inner": {}}),
                "Parameter 'inner.name' is missing",
            ),
            (
                json!({"enable": true, "inner": {"name": "", "x": 1}}),
                "Parameter 'inner.x' is unexpected",
            ),
            (
                json!({"enable": true, "inner": {"name": 5}}),
                "Invalid parameter type for 'inner.name', expected: string",
            ),
            (
                json!({"enable": true, "inner": []}),
                "Invalid parameter type for 'inner', expected: object",
            ),
            (
                json!({"enable": true, "ratio": "1"}),
                "Invalid parameter type for 'ratio', expected: number",
            ),
        ] {
            assert_eq!(refused(arguments), text);
        }
    }

    #[test]
    fn what_fits_is_taken() {
        let arguments = json!({
            "enable": false, "cpu-index": 255, "action": "power-off", "list": ["reset"],
            "inner": {"name": "n", "big": i64::MIN}, "ratio": 1, "any": {"x": [1, null]},
        });
        let Value::Object(arguments) = arguments else {
            panic!("an object is needed")
        };
        let sample: Sample = from_arguments(arguments).unwrap();
        assert_eq!(sample.cpu_index, Some(255));
        assert!(matches!(sample.action, Some(Action::PowerOff)));
        assert_eq!(sample.any, Some(json!({"x": [1, null]})));
    }

    crate::qapi! {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only the errors are looked at")]
        struct Described {
            paging: bool,
            begin: Option<i64>,
            protocol: String,
            length: Option<i64>,
        }
    }

    #[test]
    fn of_several_faults_the_member_that_is_declared_first_counts() {
        for (arguments, text) in [
            (json!({"length": "x"}), "Parameter 'paging' is missing"),
            (
                json!({"paging": true, "length": "x"}),
                "Parameter 'protocol' is missing",
            ),
            (
                json!({"paging": true, "begin": "x"}),
                "Invalid parameter type for 'begin', expected: integer",
            ),
            (
                json!({"paging": 1}),
                "Invalid parameter type for 'paging', expected: boolean",
            ),
            (
                json!({"paging": true, "protocol": "p", "length": "x"}),
                "Invalid parameter type for 'length', expected: integer",
            ),
            (
                json!({"extra": 1, "paging": true}),
                "Parameter 'protocol' is missing",
            ),
        ] {
            let Value::Object(arguments) = arguments else {
                panic!("an object is needed")
            };
            let error = from_described_arguments::<Described>(arguments).unwrap_err();
            assert_eq!(error.desc(), text);
        }
    }
}
