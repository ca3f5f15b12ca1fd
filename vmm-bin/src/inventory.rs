//! What this VM consists of, for the queries that tools send when they connect.
//!
//! There are no disks, no I/O threads, and no types of devices: nothing can be plugged.

use monitor::inventory::{
    Chardev, CommandLineOption, CpuModel, Inventory, MachineType, MemorySize,
};

use crate::cli::{Accel, Address, Config, SerialTarget, Side, option_names};
use crate::platform::MOST_CPUS;
use crate::qmp::Context;

/// The only machine that there is.
const MACHINE: &str = "vmm-bin";

/// The only CPU model: the host's own, less what KVM has not. QEMU's names.
const CPU_MODEL: &str = "host";
const CPU_TYPE: &str = "host-x86_64-cpu";

/// What the command line says of the VM.
#[derive(Debug)]
pub(crate) struct Facts {
    memory: u64,
    kvm: bool,
    chardevs: Vec<Chardev>,
}

impl Facts {
    pub(crate) fn of(config: &Config) -> Self {
        let open = |label: &str, filename: String| Chardev {
            label: label.to_owned(),
            filename,
            frontend_open: true,
        };
        let mut chardevs = vec![open("serial0", serial(&config.serial))];
        if let Some(path) = &config.debugcon {
            chardevs.push(open("debugcon", format!("file:{}", path.display())));
        }
        for (number, address) in config.qmp.iter().chain(&config.monitor).enumerate() {
            chardevs.push(open(&format!("compat_monitor{number}"), stream(address)));
        }
        Self {
            memory: config.memory,
            kvm: config.accel == Accel::Kvm,
            chardevs,
        }
    }
}

fn serial(target: &SerialTarget) -> String {
    match target {
        SerialTarget::Stdio => "stdio".to_owned(),
        SerialTarget::StdioWithMonitor => "mux".to_owned(),
        SerialTarget::Socket(address) => stream(address),
        SerialTarget::File(path) => format!("file:{}", path.display()),
        SerialTarget::Null => "null".to_owned(),
    }
}

fn stream(address: &Address) -> String {
    let server = |side: &Side| match side {
        Side::Server => ",server=on",
        Side::Client => "",
    };
    match address {
        Address::Unix { path, side } => format!("unix:{}{}", path.display(), server(side)),
        Address::Tcp { host, port, side } => format!("tcp:{host}:{port}{}", server(side)),
        Address::Descriptor(number) => format!("fd:{number}"),
        Address::Stdio => "stdio".to_owned(),
    }
}

impl Inventory for Context {
    fn memory(&self) -> MemorySize {
        MemorySize {
            base_memory: self.facts().memory,
            plugged_memory: None,
        }
    }

    fn chardevs(&self) -> Vec<Chardev> {
        self.facts().chardevs.clone()
    }

    fn machines(&self) -> Vec<MachineType> {
        vec![MachineType {
            name: MACHINE.to_owned(),
            alias: None,
            is_default: Some(true),
            cpu_max: i64::from(MOST_CPUS),
            hotpluggable_cpus: false,
            numa_mem_supported: false,
            deprecated: false,
            default_cpu_type: Some(CPU_TYPE.to_owned()),
            default_ram_id: None,
        }]
    }

    fn cpu_models(&self) -> Vec<CpuModel> {
        let lacking = if self.facts().kvm {
            Vec::new()
        } else {
            vec!["kvm".to_owned()]
        };
        vec![CpuModel {
            name: CPU_MODEL.to_owned(),
            migration_safe: Some(false),
            r#static: false,
            unavailable_features: Some(lacking),
            typename: CPU_TYPE.to_owned(),
            alias_of: None,
            deprecated: false,
        }]
    }

    fn command_line_options(&self) -> Vec<CommandLineOption> {
        let options = option_names().into_iter().map(|option| CommandLineOption {
            option,
            parameters: Vec::new(),
        });
        options.collect()
    }
}
