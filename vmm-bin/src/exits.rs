//! What becomes of each exit of a vCPU that is no access: the whole way from KVM to the run state, the
//! events and the exit code, as a table.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use kvm_ioctls::VcpuExit;
use lifecycle::{
    Event, EventSink, ExitStatus, Lifecycle, Machine, MachineError, PanicAction, Requests,
    ShutdownAction, ShutdownCause, Turn, Wake,
};
use vcpu::kvm::{InternalError, KvmExit};
use vcpu::{VcpuEvent, VcpuId};

use crate::machine::on_vcpu_event;
use crate::platform::{GuestEvents, GuestExit, Onward};
use crate::power::Power;

/// Sleeps well: the test turns by hand.
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A machine that does what it is told at once, and notes what it was told to tell.
#[derive(Clone, Default)]
struct Noted(Rc<RefCell<Vec<&'static str>>>);

impl Machine for Noted {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        Ok(())
    }
    fn resume_vcpus(&self) {}
    fn reset_devices(&self, _cause: ShutdownCause) -> Result<(), MachineError> {
        Ok(())
    }
}

impl EventSink for Noted {
    fn event(&self, event: &Event) {
        self.0.borrow_mut().push(event.name());
    }
}

/// What an exit came to.
struct Came {
    state: String,
    events: Vec<&'static str>,
    exit: Option<ExitStatus>,
    onward: Option<Onward>,
}

/// A VM that runs, one of whose vCPUs comes out of the guest in this way.
fn comes_to(exit: &KvmExit<'_>, panic: PanicAction, shutdown: ShutdownAction) -> Came {
    let requests = Arc::new(Requests::new(Arc::new(NoWake)));
    requests.policy().set_panic(panic);
    requests.policy().set_shutdown(shutdown);
    let noted = Noted::default();
    let vm = Lifecycle::new(Arc::clone(&requests), noted.clone(), noted.clone());
    vm.start().unwrap();
    noted.0.take();
    let onward = match GuestExit::of(exit) {
        Some(asked) => Some(Power::new(Arc::clone(&requests)).vcpu_exit(VcpuId(0), asked)),
        None => {
            on_vcpu_event(&requests, VcpuId(0), VcpuEvent::Failed(exit.failure()));
            None
        }
    };
    let exit = match vm.dispatch() {
        Turn::Exit(status) => Some(status),
        _ => None,
    };
    Came {
        state: vm.state().to_string(),
        events: noted.0.take(),
        exit,
        onward,
    }
}

fn system_event(kind: u32) -> KvmExit<'static> {
    KvmExit::SystemEvent { kind, data: &[] }
}

fn internal_error(suberror: u32) -> KvmExit<'static> {
    let data = vec![1, 2, 3];
    KvmExit::InternalError(InternalError { suberror, data })
}

const POWEROFF: ShutdownAction = ShutdownAction::Poweroff;
const PAUSE: ShutdownAction = ShutdownAction::Pause;

#[test]
fn each_exit_comes_to_its_state_its_events_and_its_exit_code() {
    // exit, panic and shutdown actions; state, events, exit code
    let as_usual = (PanicAction::Shutdown, POWEROFF);
    let table = [
        (KvmExit::Shutdown, as_usual, "running", "RESET", None),
        (system_event(1), as_usual, "running", "SHUTDOWN", Some(0)),
        (
            system_event(1),
            (PanicAction::Shutdown, PAUSE),
            "shutdown",
            "SHUTDOWN STOP",
            None,
        ),
        (system_event(2), as_usual, "running", "RESET", None),
        (
            system_event(3),
            as_usual,
            "running",
            "GUEST_PANICKED SHUTDOWN",
            Some(88),
        ),
        (
            system_event(3),
            (PanicAction::ExitFailure, POWEROFF),
            "running",
            "GUEST_PANICKED SHUTDOWN",
            Some(1),
        ),
        (
            system_event(3),
            (PanicAction::Pause, POWEROFF),
            "guest-panicked",
            "GUEST_PANICKED STOP",
            None,
        ),
        (
            system_event(3),
            (PanicAction::None, POWEROFF),
            "running",
            "GUEST_PANICKED",
            None,
        ),
    ];
    for (exit, (panic, shutdown), state, events, code) in table {
        let came = comes_to(&exit, panic, shutdown);
        assert_eq!(came.state, state, "{exit:?}");
        assert_eq!(came.events.join(" "), events, "{exit:?}");
        assert_eq!(
            came.exit.map(|status| status.cause_code()),
            code,
            "{exit:?}"
        );
        assert!(
            came.onward.is_some(),
            "{exit:?}: is asked for, and no failure"
        );
    }
}

#[test]
fn an_exit_that_nobody_can_handle_is_an_internal_error_and_says_which() {
    let table = [
        (system_event(0), "SystemEvent"),
        (system_event(4), "SystemEvent"),
        (system_event(u32::MAX), "SystemEvent"),
        (
            internal_error(1),
            "suberror 1 (instruction emulation failed)",
        ),
        (internal_error(2), "suberror 2"),
        (
            internal_error(3),
            "suberror 3 (fault while delivering an event)",
        ),
        (internal_error(4), "suberror 4 (unexpected exit reason)"),
        (internal_error(77), "suberror 77"),
        (
            KvmExit::FailEntry {
                reason: 0x8000_0021,
                cpu: 3,
            },
            "KVM entry failed on host CPU 3, hardware error 0x80000021",
        ),
        // The interrupt controllers are in the kernel, and so is HLT.
        (KvmExit::Hlt, "Hlt"),
        (KvmExit::Other(VcpuExit::Unknown), "Unknown"),
        (KvmExit::Other(VcpuExit::Exception), "Exception"),
        (KvmExit::Other(VcpuExit::Nmi), "Nmi"),
        (
            KvmExit::Other(VcpuExit::Unsupported(999)),
            "unknown KVM exit reason 999",
        ),
    ];
    for (exit, says) in table {
        assert_eq!(GuestExit::of(&exit), None, "{exit:?}");
        let text = exit.failure().message;
        assert!(text.contains(says), "{exit:?}: {text}");
        // Whatever the policy is: nobody has asked for anything.
        for (panic, shutdown) in [
            (PanicAction::Shutdown, POWEROFF),
            (PanicAction::ExitFailure, PAUSE),
        ] {
            let came = comes_to(&exit, panic, shutdown);
            assert_eq!(came.state, "internal-error", "{exit:?}");
            assert_eq!(came.events, ["STOP"], "{exit:?}");
            assert!(came.exit.is_none(), "{exit:?}");
        }
    }
}

/// A vCPU that asks for a reset or a shutdown runs no further instruction of what is about to end, if
/// the lifecycle says so.
#[test]
fn a_vcpu_that_asks_for_a_reset_holds() {
    let held = |exit| comes_to(&exit, PanicAction::Shutdown, POWEROFF).onward;
    assert_eq!(held(KvmExit::Shutdown), Some(Onward::Hold));
    assert_eq!(held(system_event(2)), Some(Onward::Hold));
}
