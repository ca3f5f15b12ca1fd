//! What is wrong with an argument, and which one it is: QAPI's error texts.

use serde::de;
use std::fmt;

/// One step of the way to an argument.
#[derive(Debug)]
pub(super) enum Step {
    Member(String),
    Element(usize),
}

/// What is wrong with it.
#[derive(Debug)]
pub(super) enum Fault {
    Missing,
    Unexpected,
    Type(&'static str),
    Range(&'static str),
    Variant(String),
    Other(String),
}

/// A fault and where it is. The path is collected on the way out, so its last step comes first.
#[derive(Debug)]
pub(super) struct ArgumentError {
    fault: Fault,
    path: Vec<Step>,
    /// The members of the outermost object that are declared before the one at fault and were not sent.
    absent: Vec<&'static str>,
}

impl ArgumentError {
    pub(super) fn new(fault: Fault) -> Self {
        ArgumentError {
            fault,
            path: Vec::new(),
            absent: Vec::new(),
        }
    }

    pub(super) fn of_type<T>(expected: &'static str) -> Result<T, Self> {
        Err(ArgumentError::new(Fault::Type(expected)))
    }

    pub(super) fn at_member(fault: Fault, name: &str) -> Self {
        ArgumentError::new(fault).within(Step::Member(name.to_owned()))
    }

    pub(super) fn within(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// Notes what an object of these members lacked when the one at fault was read.
    pub(super) fn lacking(mut self, sent: &[bool], fields: &[&'static str]) -> Self {
        let Some(Step::Member(faulty)) = self.path.last() else {
            return self;
        };
        let earlier = fields
            .iter()
            .zip(sent)
            .take_while(|(name, _)| *name != faulty);
        self.absent = earlier
            .filter(|(_, sent)| !**sent)
            .map(|(name, _)| *name)
            .collect();
        self
    }

    pub(super) fn absent(&self) -> &[&'static str] {
        &self.absent
    }

    /// The whole path, as in `drive.throttle[2]`.
    fn full_name(&self) -> String {
        let mut name = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Member(member) if name.is_empty() => name.push_str(member),
                Step::Member(member) => {
                    name.push('.');
                    name.push_str(member);
                }
                Step::Element(index) => name.push_str(&format!("[{index}]")),
            }
        }
        name
    }

    /// The last step alone. An element of a list has no name, and QEMU says so in its own way.
    fn own_name(&self) -> &str {
        match self.path.first() {
            Some(Step::Member(name)) => name,
            _ => "null",
        }
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.full_name();
        match &self.fault {
            Fault::Missing => write!(f, "Parameter '{full}' is missing"),
            Fault::Unexpected => write!(f, "Parameter '{full}' is unexpected"),
            Fault::Type(expected) => {
                write!(
                    f,
                    "Invalid parameter type for '{full}', expected: {expected}"
                )
            }
            Fault::Range(expected) => {
                write!(f, "Parameter '{}' expects {expected}", self.own_name())
            }
            Fault::Variant(value) => {
                write!(
                    f,
                    "Parameter '{}' does not accept value '{value}'",
                    self.own_name()
                )
            }
            Fault::Other(text) if full.is_empty() => write!(f, "Invalid parameters: {text}"),
            Fault::Other(text) => write!(f, "Parameter '{full}' is invalid: {text}"),
        }
    }
}

impl std::error::Error for ArgumentError {}

impl de::Error for ArgumentError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        ArgumentError::new(Fault::Other(text.to_string()))
    }

    fn unknown_variant(variant: &str, _: &'static [&'static str]) -> Self {
        ArgumentError::new(Fault::Variant(variant.to_owned()))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        ArgumentError::at_member(Fault::Unexpected, field)
    }

    fn missing_field(field: &'static str) -> Self {
        ArgumentError::at_member(Fault::Missing, field)
    }
}
