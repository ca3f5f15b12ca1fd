//! What this VMM consists of.

use super::Vmm;
use monitor::inventory::{
    Chardev, CommandLineOption, CpuModel, Inventory, MachineType, MemorySize, ObjectType, Property,
};

impl Inventory for Vmm {
    fn memory(&self) -> MemorySize {
        MemorySize {
            base_memory: self.memory.len().try_into().unwrap_or(u64::MAX),
            plugged_memory: None,
        }
    }

    fn chardevs(&self) -> Vec<Chardev> {
        vec![Chardev {
            label: "serial0".to_owned(),
            filename: "null".to_owned(),
            frontend_open: true,
        }]
    }

    fn machines(&self) -> Vec<MachineType> {
        vec![MachineType {
            name: "soft".to_owned(),
            alias: None,
            is_default: Some(true),
            cpu_max: 2,
            hotpluggable_cpus: false,
            numa_mem_supported: false,
            deprecated: false,
            default_cpu_type: Some("host-x86_64-cpu".to_owned()),
            default_ram_id: None,
        }]
    }

    fn cpu_models(&self) -> Vec<CpuModel> {
        vec![CpuModel {
            name: "host".to_owned(),
            migration_safe: Some(false),
            r#static: false,
            unavailable_features: Some(Vec::new()),
            typename: "host-x86_64-cpu".to_owned(),
            alias_of: None,
            deprecated: false,
        }]
    }

    fn command_line_options(&self) -> Vec<CommandLineOption> {
        vec![CommandLineOption {
            option: "qmp".to_owned(),
            parameters: Vec::new(),
        }]
    }

    fn object_types(&self) -> Vec<ObjectType> {
        let property = |name: &str, r#type: &str, default: u64| Property {
            name: name.to_owned(),
            r#type: r#type.to_owned(),
            description: None,
            default_value: Some(default.into()),
        };
        vec![
            ObjectType::new("device", "object").abstracted(),
            ObjectType::new("isa-device", "device").abstracted(),
            ObjectType::new("isa-debug-exit", "isa-device")
                .property(property("iosize", "uint32", 2))
                .property(property("iobase", "uint32", 0x501)),
            ObjectType::new("secret", "object"),
        ]
    }
}
