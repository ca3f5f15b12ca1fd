//! A program without the standard library that uses `runstate` and `notifiers`: proof that they need
//! none.
//!
//! It has its own start, panic handler and allocator. If anything below it brought the standard
//! library, the panic handler would be there twice, and this would not compile.
//! `integration-tests/freestanding.sh` builds and runs it; the exit code is 0 if all is as it should be.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::rc::Rc;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::cell::{Cell, UnsafeCell};
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use notifiers::{NotifierList, PriorityList};
use runstate::{Change, QEMU_10_2, RunState, RunStateCell, transition};

/// What the program is for; `None` if something is not as it should be.
fn use_them() -> Option<()> {
    let cell = RunStateCell::new(RunState::Prelaunch);
    cell.apply(transition!(QEMU_10_2, RunState::Prelaunch => RunState::Running))
        .ok()?;
    let paused = "paused".parse().ok()?;
    (cell.set(paused, &QEMU_10_2) == Ok(Change::Moved)).then_some(())?;
    cell.set(RunState::Debug, &QEMU_10_2).err()?;

    let sum = Rc::new(Cell::new(0));
    let add = |count| {
        let sum = Rc::clone(&sum);
        move |event: &u32| sum.set(sum.get() * 10 + event + count)
    };
    let list = NotifierList::new();
    list.add(add(1)).detach();
    drop(list.add(add(2)));
    list.notify(&1).ok()?;
    let list = PriorityList::new();
    list.add(1, add(4)).detach();
    list.add(0, add(3)).detach();
    list.run_up(&0).ok()?;
    (sum.get() == 234).then_some(())
}

// The kernel enters with the stack aligned; a function is entered with a return address on it.
global_asm!(".globl _start", "_start:", "call {start}", "ud2", start = sym start);

extern "C" fn start() -> ! {
    exit(i32::from(use_them().is_none()))
}

fn exit(code: i32) -> ! {
    // SAFETY: `exit_group` (231) takes one number and touches no memory; it does not return.
    unsafe { asm!("syscall", in("eax") 231, in("edi") code, options(noreturn, nostack)) }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// The compiled `alloc` names it, for panics that unwind. None does here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Hands out a block of memory from the front to the back, and takes nothing back.
struct Block {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

const SIZE: usize = 64 << 10;

// SAFETY: no byte is handed out twice, for `used` only grows, atomically.
unsafe impl Sync for Block {}

// SAFETY: what is handed out lies in the block, is aligned, and is nobody else's.
unsafe impl GlobalAlloc for Block {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let room = layout.size() + layout.align();
        let from = self.used.fetch_add(room, Ordering::Relaxed);
        if from + room > SIZE {
            return ptr::null_mut();
        }
        // SAFETY: with the room to align it, the place and its size are in the block.
        unsafe {
            let place = self.memory.get().cast::<u8>().add(from);
            place.add(place.align_offset(layout.align()))
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: Block = Block {
    memory: UnsafeCell::new([0; SIZE]),
    used: AtomicUsize::new(0),
};
