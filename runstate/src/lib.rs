//! The run states of a virtual machine and the table of legal transitions.
