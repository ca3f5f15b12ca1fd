//! What a record means, in a person's words: the same ones in the table and in the picture.
//!
//! What was decided is not in a record. It follows from what is, by the decisions themselves.

use std::time::Duration;

use lifecycle::{
    Actions, Compat, Event, Happening, Latched, Listeners, Phase, ShutdownRequest, Signal,
    Situation, Step, Steps, decide, plan_start, plan_stop,
};

/// What somebody asked for, if the record tells of that.
pub(super) fn request(happening: &Happening) -> Option<String> {
    match happening {
        Happening::Turn { phase, latched, .. } => asked(*phase, latched),
        Happening::Start { .. } => Some("start".into()),
        Happening::Stop {
            target,
            announced: true,
            ..
        } => Some(format!("stop: {target}")),
        Happening::Stop { .. } => Some("end of the process".into()),
        Happening::Set { to } => Some(format!("set: {to}")),
        _ => None,
    }
}

/// What this phase of a turn found in its latches.
fn asked(phase: Phase, latched: &Latched) -> Option<String> {
    match phase {
        Phase::Reports => {
            let told = [
                (latched.panicked, "guest panicked"),
                (latched.crashloaded, "guest runs its crash kernel"),
                (latched.suspend_disk, "guest saved itself to disk"),
                (latched.pvshutdown, "guest asks to be shut down"),
                (latched.watchdog, "watchdog expired"),
            ];
            let told = told.into_iter().filter(|(told, _)| *told);
            let told: Vec<_> = told.map(|(_, text)| text).collect();
            Some(told.join(", "))
        }
        Phase::Debug => Some("stop: debug".into()),
        Phase::Suspend => Some("suspend".into()),
        Phase::Shutdown => Some(shutdown(latched.shutdown?, latched.signal)),
        Phase::Reset => Some(format!("reset: {}", latched.reset?)),
        Phase::Wakeup => Some(format!("wakeup: {}", latched.wakeup?)),
        Phase::Powerdown => Some("power button".into()),
        Phase::VmStop => Some(format!("stop: {}", latched.vmstop?)),
        _ => None,
    }
}

fn shutdown(request: ShutdownRequest, signal: Option<Signal>) -> String {
    let mut text = format!("shutdown: {}", request.cause);
    if let Some(Signal { number, pid }) = signal {
        text = format!("{text}, signal {number} from pid {pid}");
    }
    if let Some(code) = request.exit_code {
        text = format!("{text}, exit code {code}");
    }
    text
}

/// The steps that were decided on, if the record tells of a decision.
pub(super) fn steps(happening: &Happening, compat: Compat) -> Option<Steps> {
    let decided = |phase: Phase, now: Situation, latched: &Latched, actions: Actions| {
        decide(phase, now, latched, actions, compat)
    };
    match *happening {
        Happening::Turn {
            phase,
            now,
            ref latched,
            actions,
        } => Some(decided(phase, now, latched, actions)),
        Happening::Start { now, vmstop } => plan_start(now, vmstop, compat).ok(),
        Happening::Stop {
            now,
            target,
            announced,
        } => plan_stop(now, target, announced, compat).ok(),
        _ => None,
    }
}

/// All of a decision.
pub(super) fn decision(steps: &Steps) -> String {
    if steps.is_empty() {
        return "nothing to do".into();
    }
    let words: Vec<_> = steps.into_iter().map(step).collect();
    words.join(", ")
}

/// The heart of a decision.
pub(super) fn outcome(steps: &Steps) -> String {
    let heart = |step: &Step| {
        let rank = match step {
            Step::Exit { .. } => 0,
            Step::Drop(_) | Step::Hold(_) => 1,
            Step::SetState(_) => 2,
            Step::ResetMachine(_) | Step::WakeMachine => 3,
            Step::LatchVmStop(_)
            | Step::RequestShutdown(_)
            | Step::RequestPoweroff(_)
            | Step::RequestReset(_)
            | Step::RequestPowerdown
            | Step::InjectNmi => 4,
            _ => return None,
        };
        Some(rank)
    };
    let ranked = steps
        .into_iter()
        .filter_map(|step| Some((heart(&step)?, step)));
    match ranked.min_by_key(|(rank, _)| *rank) {
        Some((_, Step::SetState(to))) => to.as_str().into(),
        Some((_, found)) => step(found),
        None => String::new(),
    }
}

fn step(step: Step) -> String {
    match step {
        Step::SetState(to) => format!("→ {to}"),
        Step::StopClock => "stop the clock".into(),
        Step::StartClock => "start the clock".into(),
        Step::PauseVcpus => "pause vCPUs".into(),
        Step::ResumeVcpus => "resume vCPUs".into(),
        Step::PrepareResume => "get ready".into(),
        Step::Handlers { running, .. } => {
            format!("tell handlers {}", if running { "start" } else { "stop" })
        }
        Step::Notify(listeners) => match listeners {
            Listeners::Suspend => "tell of the suspend".into(),
            Listeners::Wakeup(_) => "tell of the wakeup".into(),
            Listeners::Powerdown => "tell of the button".into(),
            _ => "tell of the shutdown".into(),
        },
        Step::Emit(notice) => notice.name().into(),
        Step::ReportSignal(_) => "report the signal".into(),
        Step::ReportNotResettable => "report that vCPUs cannot be reset".into(),
        Step::DrainFlush => "flush".into(),
        Step::SynchronizeState => "fetch vCPUs".into(),
        Step::ResetMachine(_) => "reset".into(),
        Step::SynchronizePostReset => "write vCPUs".into(),
        Step::DropStale => "drop stale requests".into(),
        Step::WakeMachine => "wake".into(),
        Step::ClearWakeup => "clear the latch".into(),
        Step::Forget => "forget".into(),
        Step::RequireReset => "require a reset".into(),
        Step::LatchVmStop(state) => format!("latch a stop: {state}"),
        Step::RequestShutdown(cause) => format!("latch a shutdown: {cause}"),
        Step::RequestPoweroff(cause) => format!("latch a poweroff: {cause}"),
        Step::RequestReset(cause) => format!("latch a reset: {cause}"),
        Step::RequestPowerdown => "press the button".into(),
        Step::ReportWatchdog => "log it".into(),
        Step::InjectNmi => "inject an NMI".into(),
        Step::Drop(_) => "drop it".into(),
        Step::Hold(_) => "hold it back".into(),
        Step::Exit { failure: false } => "exit".into(),
        Step::Exit { failure: true } => "exit with a failure".into(),
        other => format!("{other:?}"),
    }
}

/// An event with its data.
pub(super) fn event(event: &Event) -> String {
    let name = event.name();
    match event {
        Event::Reset { reason, .. } | Event::Shutdown { reason, .. } => format!("{name} {reason}"),
        Event::Watchdog { action } => format!("{name} {action}"),
        Event::GuestPanicked { action, info } | Event::GuestCrashloaded { action, info } => {
            let info = info.map(|info| format!(", {info}")).unwrap_or_default();
            format!("{name} {action}{info}")
        }
        _ => name.into(),
    }
}

/// What else happened, if the record is neither a request, a decision, an event nor a state.
pub(super) fn remark(happening: &Happening) -> Option<String> {
    Some(match happening {
        Happening::RolledBack { from, to } => format!("taken back: {from} → {to}"),
        Happening::Dropped { phase, .. } => format!("dropped: {phase}"),
        Happening::Deferred => "deferred: a callback's wish".into(),
        Happening::Refused(change) => format!("refused: {} → {}", change.from, change.to),
        Happening::PauseFailed => "vCPUs did not stop in time".into(),
        Happening::Exit => "the process ends".into(),
        _ => return None,
    })
}

/// A duration in the unit that fits: `812 ns`, `45.1 µs`, `3.2 ms`, `1.50 s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_nanos() {
        0..1_000 => format!("{} ns", duration.as_nanos()),
        1_000..1_000_000 => short(seconds * 1e6, "µs"),
        1_000_000..1_000_000_000 => short(seconds * 1e3, "ms"),
        _ => short(seconds, "s"),
    }
}

/// Three digits that mean something.
fn short(number: f64, unit: &str) -> String {
    let digits = match number {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_have_a_unit() {
        let told = |nanos| duration(Duration::from_nanos(nanos));
        assert_eq!(told(0), "0 ns");
        assert_eq!(told(999), "999 ns");
        assert_eq!(told(1_234), "1.23 µs");
        assert_eq!(told(45_120), "45.1 µs");
        assert_eq!(told(345_120), "345 µs");
        assert_eq!(told(1_500_000_000), "1.50 s");
        assert_eq!(told(3_600_000_000_000), "3600 s");
    }
}
