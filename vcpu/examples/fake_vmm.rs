//! A VMM's lifecycle with a vCPU that needs no hypervisor: start, pause, hold for a reset, failure, end.

use std::error::Error;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vcpu::fake::{FakeVcpu, Step};
use vcpu::{Control, Failure, VcpuId, VcpuSet};

fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(5))
}

/// What reaches the main loop.
enum Request {
    Reset(VcpuId),
    Failed(VcpuId, String),
}

fn main() -> Result<(), Box<dyn Error>> {
    let (post, main_loop) = mpsc::channel();
    let failures = post.clone();
    let (set, initial) = VcpuSet::new_paused(move |id, event| {
        let request = Request::Failed(id, format!("{event:?}"));
        // An error: nobody listens any more: the VMM is on its way out.
        failures.send(request).ok();
    });

    for id in 0..2 {
        let vcpu = FakeVcpu::new();
        let guest = vcpu.guest();
        guest.push(Step::Instructions(1_000));
        if id == 0 {
            let post = post.clone();
            guest.push(Step::access(move || {
                // The guest wrote the reset port: post, and run nothing until it was served.
                post.send(Request::Reset(VcpuId(0))).ok();
                Control::Hold
            }));
            guest.push(Step::access(|| {
                Control::Failed(Failure::handler("out of luck"))
            }));
        }
        set.add(VcpuId(id), vcpu)?;
    }
    println!("created: {:?}", set.states());
    initial.resume();

    for _ in 0..2 {
        let request = main_loop.recv()?;
        println!("states {:?}", set.states());
        match request {
            Request::Reset(id) => {
                println!("{id} asks for a reset");
                let guard = set.pause_all(soon())?;
                set.reset_all(soon())?;
                println!("reset while paused: {:?}", set.states());
                guard.resume();
            }
            Request::Failed(id, why) => {
                let rip = set.run_on(id, soon(), |vcpu| vcpu.registers().rip)?;
                println!("{id} failed at rip {rip} ({why}), and still answers");
            }
        }
    }
    set.shutdown(soon())?;
    println!("all threads have ended");
    Ok(())
}
