//! The qtest protocol: a test client plays the guest of a machine that executes nothing.
//!
//! ```text
//!   client ──line──▶ link ──▶ request ──▶ execute ──▶ machine: ports, memory, clock, pins
//!   client ◀──"IRQ raise 8", "OK 0x0000"── link ◀── answer, when the lifecycle is done with it
//! ```
//!
//! One request is executed in a turn of the main loop, and its answer goes out when all that it
//! asked of the lifecycle has been done: a client that has its answer finds the events of its
//! request sent, and the machine in the state that the request led to.
//!
//! | request | answer |
//! |---|---|
//! | `endianness` | `OK little` |
//! | `inb`, `inw`, `inl` PORT | `OK 0x00ff` |
//! | `outb`, `outw`, `outl` PORT VALUE | `OK` |
//! | `readb`, `readw`, `readl`, `readq` ADDR | `OK 0x0000000000000000` |
//! | `writeb`, `writew`, `writel`, `writeq` ADDR VALUE | `OK` |
//! | `read` ADDR LEN, `b64read` ADDR LEN | `OK 0x...`, `OK ...` |
//! | `write` ADDR LEN 0xHEX, `b64write` ADDR LEN BASE64, `memset` ADDR LEN BYTE | `OK` |
//! | `clock_step` \[NS\], `clock_set` NS | `OK` and the virtual time |
//! | `irq_intercept_in` DEVICE, `irq_intercept_out` DEVICE | `OK` or `FAIL` |
//! | `set_irq_in` DEVICE NAME NUM LEVEL | `OK` or `FAIL` |
//! | `module_load` PREFIX NAME | `FAIL`: there are no modules |
//!
//! Two things that QEMU does not say, it does: a client that goes away changes nothing but that
//! nobody is told of pins any more, and the next one (`server=on`) finds the machine as it is, with
//! all pins counted as low. What is no request gets a `FAIL` or `ERR` that says why; QEMU aborts on
//! most of it.
//!
//! The rule that must never be broken: nothing that a client sends, or fails to read, stops the VM.

mod execute;
mod link;
mod request;

use std::cell::RefCell;
use std::rc::Rc;

use lifecycle::Requests;
use runstate::RunState;

use crate::endpoint::Endpoint;
use crate::main_loop::Subscriber;
use crate::platform::Machine;
use execute::Executor;
use link::{Line, Link};

/// How many turns an answer waits for the lifecycle at most.
const MOST_TURNS: u32 = 16;

/// The protocol's server.
pub(crate) struct Qtest {
    link: Rc<RefCell<Link>>,
    executor: Executor,
    answer: Option<String>,
    turns: u32,
    posts: u64,
}

impl Qtest {
    /// Serves the clients of `endpoint`, one at a time.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn on(endpoint: Endpoint) -> std::io::Result<Self> {
        Ok(Self {
            link: Rc::new(RefCell::new(Link::new(endpoint)?)),
            executor: Executor::default(),
            answer: None,
            turns: 0,
            posts: 0,
        })
    }

    /// The part that the event loop calls.
    pub(crate) fn subscriber(&self) -> Subscriber {
        Rc::<RefCell<Link>>::clone(&self.link)
    }

    /// Executes at most one request.
    pub(crate) fn dispatch(&mut self, machine: &Machine, state: RunState, requests: &Requests) {
        let mut link = self.link.borrow_mut();
        if link.take_arrival() {
            if let Some(pins) = machine.pins() {
                pins.forget();
            }
            self.answer = None;
        }
        self.posts = requests.posts();
        if self.answer.is_some() {
            return;
        }
        let answer = match link.next_line() {
            None => return,
            Some(Line::TooLong) => request::Refusal::TooLong.to_string(),
            Some(Line::Whole(line)) => match request::parse(&line) {
                Ok(request) => self.executor.execute(request, machine, state, requests),
                Err(refusal) => refusal.to_string(),
            },
        };
        (self.answer, self.turns) = (Some(answer), 0);
    }

    /// Reports the pins that changed, and then answers, unless the lifecycle has been asked for more
    /// than it has done: then a later turn does.
    pub(crate) fn finish_turn(&mut self, machine: &Machine, requests: &Requests, last: bool) {
        let mut link = self.link.borrow_mut();
        for change in machine.pins().map(|pins| pins.take()).unwrap_or_default() {
            let verb = if change.level { "raise" } else { "lower" };
            link.send(&format!("IRQ {verb} {}", change.pin));
        }
        self.turns = self.turns.saturating_add(1);
        // What is posted wakes the main loop: there will be another turn.
        let settled = requests.posts() == self.posts || self.turns >= MOST_TURNS || last;
        if settled && let Some(answer) = self.answer.take() {
            link.send(&answer);
        }
        link.flush();
    }
}
