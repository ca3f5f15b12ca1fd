//! How long from a request until the main loop's turn has served it, against the bare round trip
//! of a wake-up between the same two threads, in the same run.
//!
//! ```text
//! cargo bench -p lifecycle
//! ```
//!
//! The floor: one thread writes to an eventfd; the other reads it and writes to a second one,
//! which the first reads. The request: the first posts, and its wake-up is the same write; the
//! other reads, dispatches, and a notifier writes to the second one. At most 2 is the aim.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifecycle::{
    Event, EventSink, Lifecycle, Machine, MachineError, Requests, ShutdownCause, Turn, Wake,
};
use rustix::event::{EventfdFlags, eventfd};

const ROUNDS: u32 = 41;
const TRIPS: u32 = 500;

/// An eventfd that blocks.
struct Bell(File);

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Self(File::from(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    fn ring(&self) -> io::Result<()> {
        (&self.0).write_all(&1_u64.to_ne_bytes())
    }

    fn wait(&self) -> io::Result<()> {
        (&self.0).read_exact(&mut [0; 8])
    }
}

impl Wake for Bell {
    fn wake(&self) {
        // An eventfd that counts to 2^64 is not filled here.
        let _rung = self.ring();
    }
}

struct Idle;

impl Machine for Idle {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        Ok(())
    }

    fn resume_vcpus(&self) {}

    fn reset_devices(&self, _cause: ShutdownCause) -> Result<(), MachineError> {
        Ok(())
    }
}

impl EventSink for Idle {
    fn event(&self, _event: &Event) {}
}

/// The median time of one trip.
fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds
        .get(rounds.len() / 2)
        .and_then(|round| round.checked_div(TRIPS))
        .unwrap_or_default()
}

fn time(trip: impl Fn() -> io::Result<()>) -> io::Result<Duration> {
    let start = Instant::now();
    for _ in 0..TRIPS {
        trip()?;
    }
    Ok(start.elapsed())
}

fn run() -> io::Result<()> {
    let woken = Arc::new(Bell::new()?);
    let served = Arc::new(Bell::new()?);
    let requests = Arc::new(Requests::new(woken.clone()));
    let main_loop = {
        let (woken, served, requests) = (woken.clone(), served.clone(), requests.clone());
        std::thread::spawn(move || -> io::Result<()> {
            let vm = Lifecycle::new(requests, Idle, Idle);
            let answer = served.clone();
            // The notifier answers: what is measured ends when the guest would see the button.
            let button = vm.on_powerdown(move || answer.wake());
            for _ in 0..ROUNDS {
                for _ in 0..TRIPS {
                    woken.wait()?;
                    served.ring()?;
                }
                for _ in 0..TRIPS {
                    woken.wait()?;
                    vm.dispatch();
                }
            }
            woken.wait()?;
            let ended = matches!(vm.dispatch(), Turn::Exit(_));
            drop(button);
            if ended {
                Ok(())
            } else {
                Err(io::Error::other("the machine goes on"))
            }
        })
    };
    let (mut floor, mut dispatch) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(time(|| {
            woken.ring()?;
            served.wait()
        })?);
        dispatch.push(time(|| {
            requests.powerdown();
            served.wait()
        })?);
    }
    requests.quit();
    main_loop
        .join()
        .map_err(|_| io::Error::other("the main loop panicked"))??;
    let (floor, dispatch) = (median(floor), median(dispatch));
    let ratio = dispatch.as_secs_f64() / floor.as_secs_f64();
    println!("eventfd round trip   {floor:>10.2?}");
    println!("request to dispatch  {dispatch:>10.2?}");
    println!("ratio                {ratio:>10.2}   (aim: at most 2)");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dispatch: {error}");
            ExitCode::FAILURE
        }
    }
}
