//! What `--help` says before and after the options.

/// What this program is.
pub(super) const ABOUT: &str = "\
Run a virtual machine on KVM.

Without --kernel and --firmware, a small guest that is part of this program runs:
it shows a menu on its serial console, and each entry drives the machine through
one lifecycle path.";

/// Examples, keys and exit codes.
pub(super) const AFTER: &str = "\
EXAMPLES
  The guest that is part of this program, on this terminal:
      vmm-bin
  Debian's kernel with an initial RAM disk:
      vmm-bin --kernel vmlinuz --initrd initrd.img --append console=ttyS0 \\
              --memory 512M --cpus 2
  A guest that waits for `cont` on the monitor:
      vmm-bin -S --qmp unix:/tmp/vm.qmp --serial file:/tmp/vm.log
  A picture of what the lifecycle went through (see vmm-bin trace --help):
      vmm-bin --trace vm.trace
      vmm-bin trace svg vm.trace > vm.svg
  A guest that waits for gdb (`target remote :1234`):
      vmm-bin -s -S

KEYS (--serial stdio on a terminal, --serial mon:stdio)
  Ctrl-A x       end the VM and this program
  Ctrl-A c       with mon:stdio: turn to the monitor, or back to the guest
  Ctrl-A b       send the guest a break (Linux: Magic SysRq)
  Ctrl-A h       show these keys
  Ctrl-A Ctrl-A  send Ctrl-A to the guest
  Ctrl-C         goes to the guest; with the embedded guest, ends this program,
                 as it does with --monitor stdio; with mon:stdio it is a key

ENVIRONMENT
  RUST_LOG       what to log to standard error (default: info)

EXIT CODES            --exit-codes qemu   --exit-codes cause
  guest powered off          0                   0
  isa-debug-exit of n     2n+1                2n+1
  panic=exit-failure         1                   1
  other panic                0                  88
  reset, as shutdown         0                  87 (guest), 83 (monitor)
  watchdog=poweroff          0                  87
  monitor's quit             0                  82
  SIGINT, SIGTERM, SIGHUP    0                  84
  Ctrl-A x                   0                  85
  either way: 2 the VM could not be started, 3 it could not go on,
  128+n a second signal n ended the program before it was done
";
