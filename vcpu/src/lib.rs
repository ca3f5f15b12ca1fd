//! vCPU threads: kick, pause, resume and run-on-vCPU.
