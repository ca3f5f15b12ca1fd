//! The entries of the answers, with QAPI's member names.

use serde_json::Value;

crate::qapi! {
    /// How much memory the guest has, in bytes. QAPI's `MemoryInfo`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct MemorySize {
        /// What it started with.
        pub base_memory: u64,
        /// What was plugged since. Nothing where that cannot be.
        pub plugged_memory: Option<u64>,
    }
}

crate::qapi! {
    /// A character device. QAPI's `ChardevInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct Chardev {
        /// Its name.
        pub label: String,
        /// Where it leads, in QEMU's spelling: `unix:PATH,server=on`, `pty:/dev/pts/3`, `stdio`.
        pub filename: String,
        /// Whether the guest's, or the monitor's, side of it is open.
        pub frontend_open: bool,
    }
}

crate::qapi! {
    /// A thread that does I/O. QAPI's `IOThreadInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct IoThread {
        /// Its name.
        pub id: String,
        /// The host's id of it.
        pub thread_id: i64,
        /// How long it polls at most before it sleeps, in nanoseconds; 0 if it does not poll.
        pub poll_max_ns: i64,
        /// By what the polling time is multiplied when it was too short; 0 for its own choice.
        pub poll_grow: i64,
        /// By what it is divided when it was too long; 0 for its own choice.
        pub poll_shrink: i64,
        /// Requests that it takes at once at most; 0 for its own choice.
        pub aio_max_batch: i64,
    }
}

crate::qapi! {
    /// A kind of machine. QAPI's `MachineInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct MachineType {
        /// Its name.
        pub name: String,
        /// Another name of it.
        pub alias: Option<String>,
        /// Whether it is built where none is named.
        pub is_default: Option<bool>,
        /// How many virtual CPUs it can have.
        pub cpu_max: i64,
        /// Whether CPUs can be plugged while it runs.
        pub hotpluggable_cpus: bool,
        /// Whether it can have NUMA nodes.
        pub numa_mem_supported: bool,
        /// Whether it will go.
        pub deprecated: bool,
        /// The type of its CPUs where none is named.
        pub default_cpu_type: Option<String>,
        /// The name of its memory's back end where none is given.
        pub default_ram_id: Option<String>,
    }
}

crate::qapi! {
    /// A CPU model. QAPI's `CpuDefinitionInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct CpuModel {
        /// Its name.
        pub name: String,
        /// Whether a guest on it can move to another host. Nothing where that is not known.
        pub migration_safe: Option<bool>,
        /// Whether it is the same on every host and in every version.
        pub r#static: bool,
        /// What this host lacks to run it; empty if nothing. Nothing where that is not known.
        pub unavailable_features: Option<Vec<String>>,
        /// The type of object that such a CPU is.
        pub typename: String,
        /// The model that this is another name of.
        pub alias_of: Option<String>,
        /// Whether it will go.
        pub deprecated: bool,
    }
}

crate::qapi! {
    /// An option of the command line. QAPI's `CommandLineOptionInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct CommandLineOption {
        /// Its name, without dashes.
        pub option: String,
        /// What it takes.
        pub parameters: Vec<CommandLineParameter>,
    }
}

crate::qapi! {
    /// A parameter of an option. QAPI's `CommandLineParameterInfo`.
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
    pub struct CommandLineParameter {
        /// Its name.
        pub name: String,
        /// What values it has.
        pub r#type: CommandLineParameterType,
        /// What it is for.
        pub help: Option<String>,
        /// Its value where none is given.
        pub default: Option<String>,
    }
}

crate::qapi! {
    /// What values a parameter has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
    pub enum CommandLineParameterType {
        /// Any text.
        String,
        /// `on` or `off`.
        Boolean,
        /// A number.
        Number,
        /// A number of bytes, with a suffix as in `4G`.
        Size,
    }
}

/// A type of objects.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ObjectType {
    /// Its name.
    pub name: String,
    /// The type that it descends from.
    pub parent: Option<String>,
    /// Whether there are no objects of this type itself, only of those that descend from it.
    pub is_abstract: bool,
    /// The properties that it adds to its parent's.
    pub properties: Vec<Property>,
}

impl ObjectType {
    /// A type that descends from `parent` and adds nothing to it.
    #[must_use]
    pub fn new(name: impl Into<String>, parent: impl Into<String>) -> Self {
        ObjectType {
            name: name.into(),
            parent: Some(parent.into()),
            ..ObjectType::default()
        }
    }

    /// Makes it abstract.
    #[must_use]
    pub fn abstracted(mut self) -> Self {
        self.is_abstract = true;
        self
    }

    /// Gives it a property.
    #[must_use]
    pub fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

crate::qapi! {
    /// A property of an object. QAPI's `ObjectPropertyInfo`.
    #[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
    pub struct Property {
        /// Its name.
        pub name: String,
        /// The type of its values: `uint32`, `bool`, `str`, `link<TYPE>`.
        pub r#type: String,
        /// What it is for.
        pub description: Option<String>,
        /// Its value where none is given.
        pub default_value: Option<Value>,
    }
}

crate::qapi! {
    /// An entry of `qom-list-types`. QAPI's `ObjectTypeInfo`.
    #[derive(serde::Serialize)]
    pub(super) struct ObjectTypeInfo {
        pub(super) name: String,
        pub(super) r#abstract: Option<bool>,
        pub(super) parent: Option<String>,
    }
}

crate::qapi! {
    /// An entry of `query-block`: what every block device has. QAPI's `BlockInfo`.
    #[derive(serde::Serialize)]
    pub(super) struct BlockInfo {
        device: String,
        r#type: String,
        removable: bool,
        locked: bool,
    }
}
