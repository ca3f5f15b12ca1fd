//! What a vCPU says of itself: the leaves that KVM supports, with identity and topology filled in.
//!
//! Nested virtualisation is not offered: a reset could not take it back. The topology is one package of single-threaded cores, whose APIC ids count from 0. Sources:
//! Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Leaf 1, ECX: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ECX: VMX. Leaf 0x8000_0001, ECX: SVM.
const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;
/// Leaf 1, ECX: the local APIC's timer has a TSC deadline.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, EDX: leaf 1's count of logical processors is valid.
const HTT: u32 = 1 << 28;

/// The level types of the extended topology leaves.
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// Adds the deadline mode of the local APIC's timer, which KVM announces as a capability only.
pub(crate) fn offer_tsc_deadline(supported: &mut CpuId) {
    for leaf in supported.as_mut_slice() {
        if leaf.function == 1 {
            leaf.ecx |= TSC_DEADLINE;
        }
    }
}

/// The leaves of vCPU `index` of `count`.
///
/// # Errors
/// `None` when there are more leaves than KVM takes; [`CpuId`] from KVM never has.
pub(crate) fn for_cpu(supported: &CpuId, index: u32, count: u32) -> Option<CpuId> {
    let mut leaves = supported.as_slice().to_vec();
    for leaf in &mut leaves {
        patch(leaf, index, count);
    }
    CpuId::from_entries(&leaves).ok()
}

/// Puts `value` in bits `shift..shift + width` of `register`.
fn set_bits(register: &mut u32, shift: u32, width: u32, value: u32) {
    let mask = 1_u32.checked_shl(width).unwrap_or(0).wrapping_sub(1);
    *register &= !(mask << shift);
    *register |= (value & mask) << shift;
}

/// How many bits of an APIC id tell `count` cores apart.
fn core_bits(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

/// Fills in one leaf.
fn patch(leaf: &mut kvm_cpuid_entry2, index: u32, count: u32) {
    let last = count.saturating_sub(1);
    match leaf.function {
        0x1 => {
            set_bits(&mut leaf.ebx, 24, 8, index);
            set_bits(&mut leaf.ebx, 16, 8, count);
            leaf.ecx |= HYPERVISOR;
            leaf.ecx &= !VMX;
            leaf.edx &= !HTT;
            if count > 1 {
                leaf.edx |= HTT;
            }
        }
        // Deterministic cache parameters: caches up to level 2 are a core's own.
        0x4 if leaf.eax & 0x1f != 0 => {
            let level = leaf.eax >> 5 & 7;
            set_bits(&mut leaf.eax, 26, 6, last);
            set_bits(&mut leaf.eax, 14, 12, if level >= 3 { last } else { 0 });
        }
        0xb | 0x1f => {
            leaf.edx = index;
            set_bits(&mut leaf.ecx, 0, 8, leaf.index);
            match leaf.index {
                0 => (leaf.eax, leaf.ebx, leaf.ecx) = (0, 1, LEVEL_SMT),
                1 => (leaf.eax, leaf.ebx, leaf.ecx) = (core_bits(count), count, LEVEL_CORE | 1),
                _ => (leaf.eax, leaf.ebx) = (0, 0),
            }
        }
        0x8000_0001 => leaf.ecx &= !SVM,
        // AMD: the number of cores and the width of their ids.
        0x8000_0008 => {
            set_bits(&mut leaf.ecx, 0, 8, last);
            set_bits(&mut leaf.ecx, 12, 4, core_bits(count));
        }
        // AMD: caches, as leaf 4.
        0x8000_001d if leaf.eax & 0x1f != 0 => {
            let level = leaf.eax >> 5 & 7;
            set_bits(&mut leaf.eax, 14, 12, if level >= 3 { last } else { 0 });
        }
        // AMD: extended APIC id; one thread a core, one node.
        0x8000_001e => {
            leaf.eax = index;
            set_bits(&mut leaf.ebx, 0, 16, index & 0xff);
            leaf.ecx = 0;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patches an otherwise empty leaf.
    fn patched(function: u32, index: u32, start: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
        let leaf = kvm_cpuid_entry2 {
            function,
            index,
            ..start
        };
        let supported = CpuId::from_entries(&[leaf]).unwrap();
        for_cpu(&supported, 2, 3).unwrap().as_slice()[0]
    }

    #[test]
    fn identity_and_topology_are_the_vcpus_own() {
        let zero = kvm_cpuid_entry2::default();
        let one = patched(
            1,
            0,
            kvm_cpuid_entry2 {
                ebx: 0xffff_ffff,
                ..zero
            },
        );
        assert_eq!(one.ebx, 0x0203_ffff);
        assert_eq!(one.ecx & HYPERVISOR, HYPERVISOR);
        assert_eq!(one.edx & HTT, HTT);
        let smt = patched(0xb, 0, zero);
        assert_eq!((smt.eax, smt.ebx, smt.ecx, smt.edx), (0, 1, 0x100, 2));
        let core = patched(0xb, 1, zero);
        assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (2, 3, 0x201, 2));
        let amd = patched(
            0x8000_0008,
            0,
            kvm_cpuid_entry2 {
                eax: 0x3030,
                ..zero
            },
        );
        assert_eq!((amd.eax, amd.ecx), (0x3030, 0x2002));
    }

    #[test]
    fn one_cpu_is_no_multiprocessor() {
        let leaf = kvm_cpuid_entry2 {
            function: 1,
            edx: HTT,
            ..Default::default()
        };
        let supported = CpuId::from_entries(&[leaf]).unwrap();
        let alone = for_cpu(&supported, 0, 1).unwrap().as_slice()[0];
        assert_eq!(alone.edx & HTT, 0);
        assert_eq!(core_bits(1), 0);
    }
}
