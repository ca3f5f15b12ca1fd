//! What `--help` says after the options.

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

KEYS (--serial stdio, on a terminal)
  Ctrl-A x       end the VM and this program
  Ctrl-A h       show these keys
  Ctrl-A Ctrl-A  send Ctrl-A to the guest
  Ctrl-C         goes to the guest; with the embedded guest, ends this program

ENVIRONMENT
  RUST_LOG       what to log to standard error (default: info)

EXIT CODES
";
