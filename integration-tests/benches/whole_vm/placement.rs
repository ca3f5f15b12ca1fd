//! Which processor each thread has. A command costs one figure where the kernel has put client and VMM on one
//! processor, and several times that on two, so it is the same for each side.

use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// Where the threads of a client and of its server are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    /// What the report calls it.
    pub(crate) name: &'static str,
    client: usize,
    main_loop: usize,
    vcpus: usize,
}

impl Placement {
    /// What the processors that this program may use allow.
    pub(crate) fn available() -> Outcome<Vec<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut processors = (0..CpuSet::MAX_CPU).filter(|number| allowed.is_set(*number));
        let first = processors.next().ok_or("there is no processor")?;
        let Some(second) = processors.next() else {
            return Ok(vec![Self::new("all on one CPU", first, first, first)]);
        };
        let together = Self::new(
            "client and main loop on one CPU, vCPU on another",
            first,
            first,
            second,
        );
        let mut placements = vec![together];
        // A vCPU that spins beside one of the two measures the scheduler, so this takes a third.
        if let Some(third) = processors.next() {
            let name = "client, main loop and vCPU on a CPU each";
            placements.push(Self::new(name, first, second, third));
        }
        Ok(placements)
    }

    fn new(name: &'static str, client: usize, main_loop: usize, vcpus: usize) -> Self {
        Self {
            name,
            client,
            main_loop,
            vcpus,
        }
    }

    /// Puts the calling thread where the client is, for as long as the returned value lives.
    pub(crate) fn place_client(&self) -> Outcome<InPlace> {
        let before = sched_getaffinity(None)?;
        place(None, self.client)?;
        Ok(InPlace { before })
    }

    /// Puts the threads of a server in their places: the one that the process began with is the main loop.
    pub(crate) fn place_server(&self, process: u32) -> Outcome<()> {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread: u32 = thread?.file_name().to_string_lossy().parse()?;
            let processor = if thread == process {
                self.main_loop
            } else {
                self.vcpus
            };
            place(Pid::from_raw(i32::try_from(thread)?), processor)?;
        }
        Ok(())
    }
}

/// The calling thread has its place.
pub(crate) struct InPlace {
    before: CpuSet,
}

impl Drop for InPlace {
    fn drop(&mut self) {
        // They were allowed before.
        sched_setaffinity(None, &self.before).ok();
    }
}

fn place(thread: Option<Pid>, processor: usize) -> Outcome<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(thread, &only)?)
}
