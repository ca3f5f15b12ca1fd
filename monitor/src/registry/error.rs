//! What a command answers when it fails, and the version that a server reports.

use crate::protocol::ErrorClass;
use crate::schema::VersionTriple;
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// A command's failure, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{desc}")]
pub struct CommandError {
    class: ErrorClass,
    desc: String,
}

impl CommandError {
    /// An error of the given class. `desc` says what was wrong and what would be right.
    #[must_use]
    pub fn new(class: ErrorClass, desc: impl Into<String>) -> Self {
        CommandError {
            class,
            desc: desc.into(),
        }
    }

    /// An error of class `GenericError`, which is what most are.
    #[must_use]
    pub fn generic(desc: impl Into<String>) -> Self {
        CommandError::new(ErrorClass::GenericError, desc)
    }

    /// The class, for programs.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The text, for people.
    #[must_use]
    pub fn desc(&self) -> &str {
        &self.desc
    }
}

/// The version of the VMM. QMP's member for it is named `qemu`, whoever the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
    /// Name of the build; may be empty. Here a VMM can say what it really is.
    pub package: String,
}

impl Version {
    /// A version, with the name of the build.
    #[must_use]
    pub fn new(major: u32, minor: u32, micro: u32, package: impl Into<String>) -> Self {
        Version {
            major,
            minor,
            micro,
            package: package.into(),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Version {
            major,
            minor,
            micro,
            ..
        } = *self;
        let mut version = serializer.serialize_struct("Version", 2)?;
        version.serialize_field(
            "qemu",
            &VersionTriple {
                major,
                minor,
                micro,
            },
        )?;
        version.serialize_field("package", &self.package)?;
        version.end()
    }
}
