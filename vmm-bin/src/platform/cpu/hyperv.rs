//! The guest crash registers of Hyper-V: a guest that knows them says there why it crashed.
//!
//! KVM has the registers, and ends the vCPU's run when the guest writes the last of them. A guest looks
//! for them only where Hyper-V announces itself, in the leaves from 0x4000_0000 on. KVM's own leaves,
//! which are there otherwise, follow 0x100 on, where a guest that knows KVM looks next.
//!
//! Source: Microsoft, Hypervisor Top Level Functional Specification, 6.0b: sections 2.4 (feature and
//! interface discovery) and 2.8 (guest crash enlightenment); Linux
//! Documentation/virt/kvm/x86/cpuid.rst.

use kvm_bindings::{CpuId, Msrs, kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// The first leaf of a hypervisor.
const BASE: u32 = 0x4000_0000;
/// How far on the next hypervisor's begin.
const NEXT: u32 = 0x100;
/// Leaf 1: the interface is Hyper-V's: "Hv#1".
const INTERFACE: u32 = u32::from_le_bytes(*b"Hv#1");
/// Leaf 3, EAX: the hypercall and guest identity registers, which every such guest sets up first; and
/// its own virtual processor's index.
const HYPERCALL: u32 = 1 << 5;
const VP_INDEX: u32 = 1 << 6;
/// Leaf 3, EDX: the crash registers.
const GUEST_CRASH: u32 = 1 << 10;
/// Leaf 4, EBX: a spinlock is never given up to the hypervisor.
const SPIN: u32 = u32::MAX;

/// `HV_X64_MSR_CRASH_P0`, the first of five.
const CRASH_P0: u32 = 0x4000_0100;

/// The leaves with those of Hyper-V before KVM's own. `None`: they are too many.
pub(crate) fn announce(leaves: &CpuId) -> Option<CpuId> {
    let mut moved = leaves.as_slice().to_vec();
    for leaf in &mut moved {
        if (BASE..BASE.saturating_add(NEXT)).contains(&leaf.function) {
            leaf.function = leaf.function.saturating_add(NEXT);
            if leaf.function & !BASE == NEXT && leaf.eax != 0 {
                // The highest of its leaves; 0 stands for the first one.
                leaf.eax = leaf.eax.saturating_add(NEXT);
            }
        }
    }
    moved.extend(hyperv_leaves());
    CpuId::from_entries(&moved).ok()
}

fn hyperv_leaves() -> [kvm_cpuid_entry2; 6] {
    let leaf = |number: u32, [eax, ebx, ecx, edx]: [u32; 4]| kvm_cpuid_entry2 {
        function: BASE.saturating_add(number),
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    };
    let [a, b, c] = [b"Micr", b"osof", b"t Hv"].map(|part| u32::from_le_bytes(*part));
    [
        leaf(0, [BASE.saturating_add(5), a, b, c]),
        leaf(1, [INTERFACE, 0, 0, 0]),
        // No version, no recommendations, no limits that anybody would have to know.
        leaf(2, [0; 4]),
        leaf(3, [HYPERCALL | VP_INDEX, 0, 0, GUEST_CRASH]),
        leaf(4, [0, SPIN, 0, 0]),
        leaf(5, [0; 4]),
    ]
}

/// What a guest that crashed has left in its five registers. `None`: it has none.
pub(crate) fn crash_registers(vcpu: &VcpuFd) -> Option<[u64; 5]> {
    let entry = |index| kvm_msr_entry {
        index,
        ..Default::default()
    };
    let entries: Vec<_> = (0..5)
        .map(|at| entry(CRASH_P0.saturating_add(at)))
        .collect();
    let mut registers = Msrs::from_entries(&entries).ok()?;
    let read = vcpu.get_msrs(&mut registers).ok()?;
    let mut values = [0; 5];
    for (value, register) in values.iter_mut().zip(registers.as_slice()) {
        *value = register.data;
    }
    (read == values.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_v_comes_first_and_kvm_is_still_found() {
        let kvm = kvm_cpuid_entry2 {
            function: BASE,
            eax: 0x4000_0001,
            ebx: u32::from_le_bytes(*b"KVMK"),
            ..Default::default()
        };
        let features = kvm_cpuid_entry2 {
            function: BASE + 1,
            eax: 0x0100_7efb,
            ..Default::default()
        };
        let other = kvm_cpuid_entry2 {
            function: 1,
            ..Default::default()
        };
        let before = CpuId::from_entries(&[other, kvm, features]).unwrap();
        let after = announce(&before).unwrap();
        let leaf = |function| {
            let mut found = after
                .as_slice()
                .iter()
                .filter(|leaf| leaf.function == function);
            let leaf = *found.next().unwrap();
            assert!(found.next().is_none(), "{function:#x} is there twice");
            leaf
        };
        let first = leaf(BASE);
        let name = [first.ebx, first.ecx, first.edx].map(u32::to_le_bytes);
        assert_eq!(name.concat(), b"Microsoft Hv");
        assert_eq!(first.eax, BASE + 5);
        assert_eq!(leaf(BASE + 1).eax.to_le_bytes(), *b"Hv#1");
        assert_eq!(leaf(BASE + 3).edx, 1 << 10);
        assert_eq!(leaf(BASE + 0x100).ebx, kvm.ebx);
        assert_eq!(leaf(BASE + 0x100).eax, 0x4000_0101);
        assert_eq!(leaf(BASE + 0x101).eax, features.eax);
        assert_eq!(leaf(1), other);
    }
}
