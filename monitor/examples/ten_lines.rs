//! A VMM of ten lines with a monitor, on nothing but this crate: `ten_lines SOCKET-PATH`.

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use monitor::{CommandError, MonitorSocket, NoArguments, Registry, Server, Version};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// The whole VMM: it counts, and it ends.
struct Vmm {
    resets: u64,
    running: bool,
}

#[derive(serde::Serialize)]
struct Resets {
    count: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: ten_lines SOCKET-PATH")?;
    let mut registry = Registry::new(Version::new(1, 0, 0, "ten-lines"));
    registry
        .event("RESET")
        .command("system_reset", |vmm: &mut Vmm, _: NoArguments| {
            vmm.resets = vmm.resets.saturating_add(1);
            Ok::<_, CommandError>(())
        })
        .command("x-query-resets", |vmm: &mut Vmm, _: NoArguments| {
            Ok::<_, CommandError>(Resets { count: vmm.resets })
        })
        .command("quit", |vmm: &mut Vmm, _: NoArguments| {
            vmm.running = false;
            Ok::<_, CommandError>(())
        });
    let mut server = Server::new(registry)?;
    let sender = server.emitter();
    server.listen(MonitorSocket::bind(path)?);

    let server = Rc::new(RefCell::new(server));
    let mut events: EventManager<Rc<RefCell<dyn MutEventSubscriber>>> = EventManager::new()?;
    events.add_subscriber(server.clone());
    let mut vmm = Vmm {
        resets: 0,
        running: true,
    };
    while vmm.running {
        events.run()?;
        let resets = vmm.resets;
        server.borrow_mut().dispatch(&mut vmm);
        if vmm.resets > resets {
            sender.emit_bare("RESET")?; // before the reply, which finish_turn sends
        }
        server.borrow_mut().finish_turn();
    }
    server.borrow_mut().close(Duration::from_secs(5));
    Ok(())
}
