//! Starting and stopping a small machine: handlers by priority, and one that comes and goes.
//!
//! `cargo run -p notifiers --example change_state`

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;

use notifiers::{NotifierHandle, PriorityList};

/// What the handlers are told.
#[derive(Debug)]
struct Change {
    running: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let handlers = PriorityList::<Change>::new();

    // The depth in the device tree is the priority: a bus runs before what is plugged into it.
    for (name, depth) in [("disk", 2), ("clock", -1), ("controller", 1), ("bus", 0)] {
        handlers
            .add(depth, move |change| {
                println!("  {name}: running = {}", change.running)
            })
            .detach();
    }

    // A handler that acts once. It owns its handle, and dropping that removes it.
    let own: Rc<RefCell<Option<NotifierHandle>>> = Rc::default();
    let inner = Rc::clone(&own);
    own.replace(Some(handlers.add(0, move |_| {
        println!("  first start only: warming up");
        inner.take();
    })));

    println!("start");
    handlers.run_up(&Change { running: true })?;
    println!("stop");
    handlers.run_down(&Change { running: false })?;
    println!("start");
    handlers.run_up(&Change { running: true })?;
    Ok(())
}
