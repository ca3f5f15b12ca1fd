//! KVM itself: the device, the VM with its in-kernel interrupt controllers and timer, and the
//! interrupt lines that devices drive.

use std::ffi::CString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::error::Error;
use super::layout::{KVM_IDENTITY_MAP, KVM_TSS};
use super::sys;

/// Where KVM is.
pub(crate) const DEVICE: &str = "/dev/kvm";

/// KVM's stable interface.
const API_VERSION: i32 = 12;

/// The most vCPUs: local APIC ids have 8 bits, and 255 is the broadcast address.
pub(crate) const MOST_CPUS: u32 = 254;

/// What a machine cannot do without, with the name by which KVM's documentation knows it.
const NEEDED: [(Cap, &str); 9] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Where KVM comes from.
#[derive(Debug, Clone)]
pub(crate) enum Device {
    /// It is opened at this path, usually [`DEVICE`].
    Path(PathBuf),
    /// Somebody else, who may, has opened it. In messages it goes by this name.
    Open(Arc<OwnedFd>, PathBuf),
}

impl From<&str> for Device {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl Device {
    fn open(&self) -> Result<Kvm, Error> {
        let path = match self {
            Self::Open(fd, _) => {
                return fd.try_clone().map(sys::kvm).map_err(Error::Descriptor);
            }
            Self::Path(path) => path,
        };
        let absent = || Error::KvmAbsent { path: path.clone() };
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| absent())?;
        Kvm::new_with_path(name).map_err(|source| match source.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => absent(),
            libc::EACCES | libc::EPERM => Error::KvmPermission { path: path.clone() },
            _ => Error::KvmOpen {
                path: path.clone(),
                source,
            },
        })
    }

    fn name(&self) -> &Path {
        match self {
            Self::Path(name) | Self::Open(_, name) => name,
        }
    }
}

/// The opened KVM device.
pub(crate) struct Host {
    kvm: Kvm,
    cpuid: CpuId,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Host {
    /// Opens KVM and checks that it can do what is needed.
    ///
    /// # Errors
    /// One for each way in which a host may lack it.
    pub(crate) fn open(device: &Device) -> Result<Self, Error> {
        let kvm = device.open()?;
        let found = kvm.get_api_version();
        if found != API_VERSION {
            let path = device.name().to_path_buf();
            return Err(Error::KvmVersion { path, found });
        }
        if let Some(&(_, name)) = NEEDED.iter().find(|&&(cap, _)| !kvm.check_extension(cap)) {
            return Err(Error::KvmCapability { name });
        }
        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("read the CPUID leaves that it supports"))?;
        if kvm.check_extension(Cap::TscDeadlineTimer) {
            super::cpu::offer_tsc_deadline(&mut cpuid);
        }
        Ok(Self { kvm, cpuid })
    }

    /// Announces Hyper-V's guest crash registers to guests.
    ///
    /// # Errors
    /// When this KVM does not have them.
    pub(crate) fn offer_hyperv_crash(&mut self) -> Result<(), Error> {
        let refused = Error::CpuFeature {
            option: "--cpu hv-crash=on",
            name: "KVM_CAP_HYPERV",
        };
        let offered = Some(&self.cpuid)
            .filter(|_| self.kvm.check_extension(Cap::Hyperv))
            .and_then(super::cpu::announce_hyperv);
        self.cpuid = offered.ok_or(refused)?;
        Ok(())
    }

    /// The CPUID leaves that KVM offers to guests.
    pub(crate) fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// The MSRs that KVM can save.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn msrs(&self) -> Result<Vec<u32>, Error> {
        let list = self
            .kvm
            .get_msr_index_list()
            .map_err(Error::kvm("list its MSRs"))?;
        Ok(list.as_slice().to_vec())
    }

    /// The width of a guest-physical address, in bits; 36 when KVM does not say.
    pub(crate) fn address_bits(&self) -> u32 {
        const ADDRESS_SIZES: u32 = 0x8000_0008;
        let leaf = self
            .cpuid
            .as_slice()
            .iter()
            .find(|leaf| leaf.function == ADDRESS_SIZES);
        let bits = leaf.map(|leaf| leaf.eax & 0xff);
        bits.filter(|bits| (32..=52).contains(bits)).unwrap_or(36)
    }

    /// The most vCPUs that a machine may have here.
    pub(crate) fn most_cpus(&self) -> u32 {
        u32::try_from(self.kvm.get_max_vcpus())
            .unwrap_or(MOST_CPUS)
            .min(MOST_CPUS)
    }

    /// Makes a VM with nothing in it yet. Give it its memory first, then its interrupt controllers
    /// ([`Vm::create_interrupt_controllers`]): the other way round takes some 5 ms longer, because a
    /// memory slot waits until the bus changes of the controllers are seen everywhere (SRCU).
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn create_vm(&self) -> Result<Vm, Error> {
        let fd = self.retry_create()?;
        fd.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(Error::kvm("place its identity map page"))?;
        let tss = usize::try_from(KVM_TSS).unwrap_or(usize::MAX);
        fd.set_tss_address(tss)
            .map_err(Error::kvm("place its task state segment"))?;
        Ok(Vm {
            fd: Arc::new(fd),
            readonly_memory: self.kvm.check_extension(Cap::ReadonlyMem),
        })
    }

    /// KVM_CREATE_VM gives up when a signal arrives.
    fn retry_create(&self) -> Result<VmFd, Error> {
        loop {
            match self.kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR => {}
                other => return other.map_err(Error::kvm("create a VM")),
            }
        }
    }
}

/// A VM.
#[derive(Clone)]
pub(crate) struct Vm {
    fd: Arc<VmFd>,
    readonly_memory: bool,
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm").finish_non_exhaustive()
    }
}

impl Vm {
    /// The VM's file descriptor.
    pub(crate) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Whether a memory slot may be read-only to the guest.
    pub(crate) fn has_readonly_memory(&self) -> bool {
        self.readonly_memory
    }

    /// Makes the interrupt controllers and the interval timer, in the kernel. To be called before the
    /// first vCPU is made.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn create_interrupt_controllers(&self) -> Result<(), Error> {
        self.fd
            .create_irq_chip()
            .map_err(Error::kvm("create the interrupt controllers"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        self.fd
            .create_pit2(pit)
            .map_err(Error::kvm("create the interval timer"))?;
        self.route_interrupts()
    }

    /// Makes the vCPU with this index, which is also its local APIC id.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn create_vcpu(&self, index: u32) -> Result<VcpuFd, Error> {
        self.fd
            .create_vcpu(u64::from(index))
            .map_err(Error::kvm("create a vCPU"))
    }

    /// The interrupt line `gsi`: 0 to 15 reach the PIC and the I/O APIC, 16 to 23 the latter only.
    pub(crate) fn irq_line(&self, gsi: u32) -> KvmIrqLine {
        KvmIrqLine {
            vm: self.clone(),
            gsi,
        }
    }

    /// The wiring of a PC: the timer's line 0 is pin 2 of the I/O APIC, as the interrupt source
    /// override in the MADT says (KVM's own default leaves it at pin 0).
    fn route_interrupts(&self) -> Result<(), Error> {
        let pic = (0..16).filter(|&gsi| gsi != 2).map(|gsi: u32| {
            if gsi < 8 {
                sys::irqchip_route(gsi, KVM_IRQCHIP_PIC_MASTER, gsi)
            } else {
                sys::irqchip_route(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi.saturating_sub(8))
            }
        });
        let io_apic = (0..24).filter(|&gsi| gsi != 2).map(|gsi: u32| {
            sys::irqchip_route(gsi, KVM_IRQCHIP_IOAPIC, if gsi == 0 { 2 } else { gsi })
        });
        let entries: Vec<_> = pic.chain(io_apic).collect();
        let routing = kvm_bindings::KvmIrqRouting::from_entries(&entries).map_err(|_| {
            Error::KvmCapability {
                name: "KVM_CAP_IRQ_ROUTING",
            }
        })?;
        self.fd
            .set_gsi_routing(&routing)
            .map_err(Error::kvm("route the interrupt lines"))
    }
}

/// An interrupt line of KVM's in-kernel interrupt controllers.
#[derive(Debug, Clone)]
pub(crate) struct KvmIrqLine {
    vm: Vm,
    gsi: u32,
}

impl devices::IrqLine for KvmIrqLine {
    fn set(&self, level: bool) {
        if let Err(error) = self.vm.fd.set_irq_line(self.gsi, level) {
            // The line exists as long as the VM does, so this is a broken host; a device cannot
            // help it, and the guest sees a lost interrupt.
            log::warn!("KVM: interrupt line {}: {error}", self.gsi);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_kvm_is_told_so() {
        let error = Host::open(&"/nonexistent/kvm".into()).unwrap_err();
        assert!(matches!(error, Error::KvmAbsent { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent/kvm does not exist")
        );
        assert!(error.to_string().contains("--accel qtest"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_kvm_is_refused() {
        let opened = std::fs::File::open("/dev/null").unwrap();
        let opened = Device::Open(Arc::new(opened.into()), "fd=3".into());
        for device in ["/dev/null".into(), opened] {
            let error = Host::open(&device).unwrap_err();
            let refused = matches!(error, Error::KvmVersion { found: -1, .. });
            let name = device.name().to_string_lossy();
            assert!(refused && error.to_string().starts_with(&*name), "{error}");
        }
    }
}
