//! A machine for guests of a few bytes: 64 KiB of memory, real mode, code at 0x1000, a counter at 0x2000; `es` is where
//! no memory is.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vcpu::kvm::{ExitHandler, KvmVcpu};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

pub(crate) const CODE: u64 = 0x1000;
pub(crate) const COUNTER: u64 = 0x2000;
const MEMORY: usize = 0x1_0000;
const NO_MEMORY: u64 = 0x2_0000;

pub(crate) struct Machine {
    msrs: Vec<u32>,
    vm: VmFd,
    memory: GuestMemoryMmap,
}

impl Machine {
    /// Nothing where there is no `/dev/kvm`. Where there is one, it must work.
    pub(crate) fn new(irqchip: bool) -> Option<Self> {
        if !Path::new("/dev/kvm").exists() {
            return None;
        }
        let kvm = Kvm::new().expect("/dev/kvm exists but cannot be used");
        // KVM_CREATE_VM gives up when a signal comes, and a test that runs beside this one may send them to every thread.
        let vm = loop {
            match kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR => {}
                made => break made.unwrap(),
            }
        };
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let region = kvm_userspace_memory_region {
            memory_size: MEMORY as u64,
            userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
            ..Default::default()
        };
        // SAFETY: the machine outlives its vCPUs' threads: each test shuts them down first.
        unsafe { vm.set_user_memory_region(region) }.unwrap();
        if irqchip {
            vm.create_irq_chip().unwrap();
        }
        let msrs = kvm.get_msr_index_list().unwrap().as_slice().to_vec();
        Some(Self { msrs, vm, memory })
    }

    /// A vCPU that will run `code`: that of vCPU 0 is at `CODE`, each further one has 256 bytes more.
    pub(crate) fn vcpu<H: ExitHandler>(&self, id: u64, code: &[u8], handler: H) -> KvmVcpu<H> {
        let fd = self.descriptor(id, code);
        KvmVcpu::new(fd, self.vm.run_size(), self.msrs.clone(), handler).unwrap()
    }

    /// The same, without the crate under test.
    pub(crate) fn descriptor(&self, id: u64, code: &[u8]) -> VcpuFd {
        let start = CODE | (id << 8);
        self.write(start, code);
        let fd = self.vm.create_vcpu(id).unwrap();
        let mut sregs = fd.get_sregs().unwrap();
        for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.ss] {
            segment.base = 0;
            segment.selector = 0;
        }
        sregs.es.base = NO_MEMORY;
        sregs.es.selector = u16::try_from(NO_MEMORY >> 4).unwrap();
        fd.set_sregs(&sregs).unwrap();
        let mut regs = fd.get_regs().unwrap();
        (regs.rip, regs.rflags, regs.rax) = (start, 2, 0);
        fd.set_regs(&regs).unwrap();
        // Without this, those but the first would wait for a start-up IPI.
        if id > 0 {
            let runnable = kvm_bindings::kvm_mp_state { mp_state: 0 };
            // Refused without an in-kernel interrupt controller, where they run at once.
            fd.set_mp_state(runnable).ok();
        }
        fd
    }

    pub(crate) fn run_size(&self) -> usize {
        self.vm.run_size()
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .unwrap();
    }

    pub(crate) fn counter(&self) -> u16 {
        self.memory.read_obj(GuestAddress(COUNTER)).unwrap()
    }

    /// The counter before and after a while.
    pub(crate) fn counter_while(&self, time: Duration) -> (u16, u16) {
        let before = self.counter();
        thread::sleep(time);
        (before, self.counter())
    }
}

/// A deadline that only a hang misses.
pub(crate) fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(30))
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Some(Instant::now()) < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
