//! What follows from what vCPU threads and device timers told of the guest.
//!
//! | report | event | what is requested |
//! |---|---|---|
//! | saved to disk | `SUSPEND_DISK` | a shutdown |
//! | crash kernel | `GUEST_CRASHLOADED` | nothing |
//! | panic | `GUEST_PANICKED` | as the panic action says |
//! | watchdog | `WATCHDOG` | as the watchdog action says |
//! | pvpanic's shutdown | `GUEST_PVSHUTDOWN` | a shutdown |
//!
//! The rule that must never be broken: here events are told and requests are latched, and nothing
//! else is done. The later phases of the turn serve what is latched.

use runstate::RunState;

use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::panic::{GuestPanicAction, panic_action};
use crate::policy::{Actions, WatchdogAction};
use crate::step::{Latched, Notice, Situation, Step, Steps};

/// The steps for the reports that came in.
pub(super) fn report_steps(
    now: Situation,
    latched: &Latched,
    actions: Actions,
    compat: Compat,
) -> Steps {
    let mut steps = Steps::new();
    let shutdown = Step::RequestShutdown(ShutdownCause::GuestShutdown);
    if latched.suspend_disk {
        steps.push(Step::Emit(Notice::SuspendDisk));
        steps.push(shutdown);
    }
    steps.push_if(latched.crashloaded, Step::Emit(Notice::GuestCrashloaded));
    if latched.panicked {
        panicked(now, actions, &mut steps);
    }
    if latched.pvshutdown {
        steps.push(Step::Emit(Notice::GuestPvshutdown));
        steps.push(shutdown);
    }
    if latched.watchdog {
        watchdog_expired(actions.watchdog, compat, &mut steps);
    }
    steps
}

/// As in QEMU, a panic's stop and its shutdown are latched, so that one which ends the process shows
/// no stop.
fn panicked(now: Situation, actions: Actions, steps: &mut Steps) {
    let action = panic_action(actions);
    steps.push(Step::Emit(Notice::GuestPanicked(action)));
    match action {
        GuestPanicAction::Run => steps.push_if(now.state.is_running(), Step::ResumeVcpus),
        GuestPanicAction::Pause => steps.push(Step::LatchVmStop(RunState::GuestPanicked)),
        GuestPanicAction::Poweroff => {
            steps.push(Step::LatchVmStop(RunState::GuestPanicked));
            steps.push(Step::RequestShutdown(ShutdownCause::GuestPanic));
        }
    }
}

/// Comes last: under `Qemu7_2` it may end the process on the spot, as QEMU does.
fn watchdog_expired(action: WatchdogAction, compat: Compat, steps: &mut Steps) {
    steps.push(Step::Emit(Notice::Watchdog(action)));
    match action {
        WatchdogAction::Reset => steps.push(Step::RequestReset(ShutdownCause::GuestReset)),
        WatchdogAction::Shutdown => steps.push(Step::RequestPowerdown),
        WatchdogAction::Poweroff if compat == Compat::Qemu7_2 => {
            steps.push(Step::Exit { failure: false });
        }
        WatchdogAction::Poweroff => steps.push(Step::RequestPoweroff(ShutdownCause::GuestReset)),
        WatchdogAction::Pause => steps.push(Step::LatchVmStop(RunState::Watchdog)),
        WatchdogAction::Debug => steps.push(Step::ReportWatchdog),
        WatchdogAction::InjectNmi => steps.push(Step::InjectNmi),
        WatchdogAction::None => {}
    }
}
