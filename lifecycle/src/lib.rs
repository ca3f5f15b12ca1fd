//! Request latches, action policy and main-loop decisions of a virtual machine monitor.
