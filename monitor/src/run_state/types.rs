//! What the queries return, with QAPI's member names.

use crate::QapiType;
use crate::schema::{Schema, TypeName};
use runstate::RunState;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use std::fmt::Display;
use std::str::FromStr;

/// What a VM is called and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name that was given to it, if one was.
    pub name: Option<String>,
    /// Its UUID in the usual form of 36 characters; all zeros where none was given.
    pub uuid: String,
    /// The guest's architecture in QAPI's spelling (`SysEmuTarget`): `x86_64`, `aarch64`.
    pub target: String,
    /// Whether it runs on KVM.
    pub kvm: bool,
}

impl Default for Identity {
    /// No name, no UUID, `x86_64` on KVM.
    fn default() -> Self {
        Identity {
            name: None,
            uuid: "00000000-0000-0000-0000-000000000000".to_owned(),
            target: "x86_64".to_owned(),
            kvm: true,
        }
    }
}

/// One virtual CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Its index, from 0.
    pub index: u32,
    /// The host's id of the thread that runs it.
    pub thread_id: u32,
}

/// An enum of `lifecycle` or `runstate`, in its QAPI spelling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: Display> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map(Named)
            .map_err(|_| D::Error::unknown_variant(&name, &[]))
    }
}

macro_rules! spelled {
    ($($Enum:ty),+ $(,)?) => {
        $(impl QapiType for Named<$Enum> {
            fn describe(schema: &mut Schema) -> TypeName {
                let values: Vec<_> = <$Enum>::ALL.iter().map(|value| value.as_str()).collect();
                schema.enumeration::<$Enum>(&values)
            }
        })+
    };
}

spelled! {
    RunState,
    lifecycle::GuestPanicAction,
    lifecycle::PanicAction,
    lifecycle::RebootAction,
    lifecycle::S390CrashReason,
    lifecycle::ShutdownAction,
    lifecycle::ShutdownCause,
    lifecycle::WatchdogAction,
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct StatusReply {
        pub(super) running: bool,
        pub(super) singlestep: Option<bool>,
        pub(super) status: Named<RunState>,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct NameReply {
        pub(super) name: Option<String>,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct UuidReply {
        pub(super) uuid as "UUID": String,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct KvmReply {
        pub(super) enabled: bool,
        pub(super) present: bool,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct TargetReply {
        pub(super) arch: String,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct CurrentMachineReply {
        pub(super) wakeup_suspend_support: bool,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    pub(super) struct CpuReply {
        cpu_index: u32,
        qom_path: String,
        thread_id: u32,
        props: Option<CpuProps>,
        target: String,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    struct CpuProps {
        socket_id: Option<u32>,
        core_id: Option<u32>,
        thread_id: Option<u32>,
    }
}

impl CpuReply {
    pub(super) fn new(cpu: &CpuInfo, target: &str) -> Self {
        CpuReply {
            cpu_index: cpu.index,
            qom_path: format!("/machine/unattached/device[{}]", cpu.index),
            thread_id: cpu.thread_id,
            target: target.to_owned(),
            // One thread a core and one core a socket: QEMU's default topology.
            props: Some(CpuProps {
                socket_id: Some(cpu.index),
                core_id: Some(0),
                thread_id: Some(0),
            }),
        }
    }
}
