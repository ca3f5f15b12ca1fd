//! What the queries return, with QAPI's member names.

use serde::Serialize;

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

#[derive(Serialize)]
pub(super) struct StatusReply {
    pub(super) running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) singlestep: Option<bool>,
    pub(super) status: &'static str,
}

#[derive(Serialize)]
pub(super) struct NameReply {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

#[derive(Serialize)]
pub(super) struct UuidReply {
    #[serde(rename = "UUID")]
    pub(super) uuid: String,
}

#[derive(Serialize)]
pub(super) struct KvmReply {
    pub(super) enabled: bool,
    pub(super) present: bool,
}

#[derive(Serialize)]
pub(super) struct TargetReply {
    pub(super) arch: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CurrentMachineReply {
    pub(super) wakeup_suspend_support: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CpuReply {
    cpu_index: u32,
    qom_path: String,
    thread_id: u32,
    target: String,
    props: CpuProps,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CpuProps {
    socket_id: u32,
    core_id: u32,
    thread_id: u32,
}

impl CpuReply {
    pub(super) fn new(cpu: &CpuInfo, target: &str) -> Self {
        CpuReply {
            cpu_index: cpu.index,
            qom_path: format!("/machine/unattached/device[{}]", cpu.index),
            thread_id: cpu.thread_id,
            target: target.to_owned(),
            // One thread a core and one core a socket: QEMU's default topology.
            props: CpuProps {
                socket_id: cpu.index,
                core_id: 0,
                thread_id: 0,
            },
        }
    }
}
