//! What can be wrong with the machine that a user asked for, or with the host that it is to run on.

use std::path::PathBuf;

use super::layout::MIB;

/// Why the platform could not do what it was asked to do.
///
/// Each message says what was wrong and what would be right; `vmm-bin` prints it as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// There is no KVM device.
    #[error(
        "{} does not exist: this host offers no KVM (load kvm-intel or kvm-amd, enable \
         virtualisation in the firmware, or nested virtualisation in the outer VM; --accel qtest \
         needs no KVM, but executes no guest)",
        path.display()
    )]
    KvmAbsent {
        /// What was opened.
        path: PathBuf,
    },
    /// The KVM device may not be opened.
    #[error(
        "no permission to open {}: become a member of the group that owns it (usually `kvm`) or \
         run as root; or have who may open it, and give --accel kvm,fd=N",
        path.display()
    )]
    KvmPermission {
        /// What was opened.
        path: PathBuf,
    },
    /// The KVM device cannot be opened for another reason.
    #[error("cannot open {}: {source}", path.display())]
    KvmOpen {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        source: kvm_ioctls::Error,
    },
    /// There is no descriptor left.
    #[error("cannot make a file descriptor: {0}; see `ulimit -n`")]
    Descriptor(std::io::Error),
    /// The device is not KVM, or one of another age.
    #[error("{} speaks KVM API version {found}, this program needs version 12", path.display())]
    KvmVersion {
        /// What was opened.
        path: PathBuf,
        /// What it answered; negative when it is no KVM device at all.
        found: i32,
    },
    /// KVM lacks something.
    #[error("this host's KVM lacks {name}, which this program needs: use a newer kernel")]
    KvmCapability {
        /// The capability's name in KVM's documentation.
        name: &'static str,
    },
    /// KVM cannot do something that was asked for.
    #[error("{option}: this host's KVM cannot do that, it lacks {name}; leave it out")]
    CpuFeature {
        /// What was asked for.
        option: &'static str,
        /// The capability's name in KVM's documentation.
        name: &'static str,
    },
    /// KVM refused an operation.
    #[error("KVM: cannot {what}: {source}")]
    Kvm {
        /// What was tried, as a verb and its object.
        what: &'static str,
        /// Why not.
        source: kvm_ioctls::Error,
    },
    /// Too many or no vCPUs.
    #[error("{asked} vCPUs: this host allows 1 to {max}")]
    CpuCount {
        /// What was asked for.
        asked: u32,
        /// What is possible.
        max: u32,
    },

    /// Less memory than the machine itself needs.
    #[error("{asked} bytes of memory are too little: the least is {least_mib} MiB", least_mib = least / MIB)]
    MemoryTooSmall {
        /// Bytes asked for.
        asked: u64,
        /// The least number of bytes.
        least: u64,
    },
    /// Memory is given to the guest in pages.
    #[error("{asked} bytes of memory are not a multiple of {page}, the size of its pages")]
    MemoryUnaligned {
        /// Bytes asked for.
        asked: u64,
        /// Bytes of a page.
        page: u64,
    },
    /// More than the guest's processor can address.
    #[error(
        "{asked_mib} MiB of memory are more than the {bits}-bit guest-physical addresses of this \
         host reach: the most is {most_mib} MiB",
        asked_mib = asked / MIB,
        most_mib = most / MIB
    )]
    MemoryTooLarge {
        /// Bytes asked for.
        asked: u64,
        /// The most bytes.
        most: u64,
        /// Width of a guest-physical address.
        bits: u32,
    },
    /// The host does not give it.
    #[error("the host refuses {asked_mib} MiB of guest memory: {reason}", asked_mib = asked / MIB)]
    MemoryRefused {
        /// Bytes asked for.
        asked: u64,
        /// Why not.
        reason: String,
    },
    /// It has too few huge pages.
    #[error(
        "the guest's memory takes {needed} huge pages of 2 MiB, and {free} are free on this host: set \
         more aside by /proc/sys/vm/nr_hugepages, or give no hugepages=on"
    )]
    HugePages {
        /// How many it takes.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// It has none at all.
    #[error("this host's kernel has no huge pages of 2 MiB: give no hugepages=on")]
    NoHugePages,
    /// Guest memory could not be written or cleared.
    #[error("guest memory at {address:#x}: {reason}")]
    MemoryAccess {
        /// Guest-physical.
        address: u64,
        /// What happened.
        reason: String,
    },

    /// A file cannot be opened or read.
    #[error("{role} {}: {source}", path.display())]
    File {
        /// What it is for: kernel, initrd, firmware.
        role: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{role} {}: not a regular file", path.display())]
    NotAFile {
        /// What it is for.
        role: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// A file is not what it was when the machine was powered on.
    #[error(
        "{role} {} changed while the machine ran: it cannot be loaded again as at power-on",
        path.display()
    )]
    FileChanged {
        /// What it is for.
        role: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// Not a kernel that we can boot.
    #[error(
        "{} is not a kernel: expected a bzImage, an ELF vmlinux or a PVH image; found {found}",
        path.display()
    )]
    NotAKernel {
        /// Which file.
        path: PathBuf,
        /// What it looks like.
        found: String,
    },
    /// A kernel, but broken or of a kind that cannot be booted here.
    #[error("kernel {}: {reason}", path.display())]
    Kernel {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel does not fit.
    #[error(
        "kernel {} needs {needed_mib} MiB of guest memory below 3 GiB, the machine has \
         {have_mib} MiB there",
        path.display(),
        needed_mib = needed.div_ceil(MIB),
        have_mib = have / MIB
    )]
    KernelTooLarge {
        /// Which file.
        path: PathBuf,
        /// Bytes from address 0 on.
        needed: u64,
        /// Bytes of RAM from address 0 on.
        have: u64,
    },
    /// The initrd does not fit beside the kernel.
    #[error(
        "initrd {} has {size} bytes, {room} bytes are free between the kernel and {limit:#x}: \
         give the machine more memory or use a smaller initrd",
        path.display()
    )]
    InitrdTooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// What is free.
        room: u64,
        /// Where an initrd must end for this kernel and machine.
        limit: u64,
    },
    /// The command line does not fit.
    #[error("the kernel command line has {length} bytes, this kernel takes at most {most}")]
    CommandLineTooLong {
        /// Its length.
        length: usize,
        /// The kernel's limit.
        most: usize,
    },
    /// The command line cannot be a C string.
    #[error("the kernel command line has a NUL byte at position {position}")]
    CommandLineNul {
        /// Where.
        position: usize,
    },
    /// Not usable as firmware.
    #[error("firmware {}: {reason}", path.display())]
    Firmware {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A flat image does not fit where it is to go.
    #[error("a flat image of {size} bytes does not fit at {address:#x}")]
    FlatImage {
        /// Its size.
        size: u64,
        /// Where it was to go.
        address: u64,
    },
    /// A guest that slept did not say where to wake it, or not where a processor in real mode gets.
    #[error(
        "the guest cannot be woken: the waking vector in its FACS is {vector:#x}, and should be from 0x1 \
         to 0xfffff"
    )]
    WakingVector {
        /// What it said.
        vector: u32,
    },
    /// The devices do not fit together.
    #[error("the machine's devices: {0}")]
    Board(devices::Error),
    /// A vCPU could not be set up.
    #[error("vCPU {index}: {source}")]
    Vcpu {
        /// Which.
        index: u32,
        /// Why not.
        source: vcpu::kvm::KvmError,
    },
    /// A vCPU's thread could not be started or did not do its part.
    #[error(transparent)]
    Vcpus(#[from] vcpu::VcpuError),
    /// The ACPI tables cannot be built.
    #[error("ACPI tables: {reason}")]
    Acpi {
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// An adapter for `map_err` on KVM calls: `what` completes "cannot ...".
    pub(crate) fn kvm(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { what, source }
    }
}
