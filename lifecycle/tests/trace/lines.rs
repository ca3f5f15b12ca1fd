//! The trace as lines of a file: what is written reads back, plays back, and what is no line says so.

use std::time::Duration;

use lifecycle::{
    Compat, Event, GuestPanicAction, Happening, Latched, PanicInfo, Phase, Policy, S390CrashReason,
    ShutdownCause, ShutdownRequest, Signal, Situation, TraceLine, TraceLineError, TraceRecord,
    WakeupReason, WatchdogAction, replay,
};
use proptest::prelude::*;
use runstate::{InvalidTransition, RunState};

use crate::common::running;

fn any_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

fn state() -> impl Strategy<Value = RunState> {
    any_of(RunState::ALL)
}

fn situation() -> impl Strategy<Value = Situation> {
    (state(), any::<bool>(), any::<bool>()).prop_map(|(state, was_suspended, needs_reset)| {
        Situation {
            state,
            was_suspended,
            needs_reset,
        }
    })
}

fn request() -> impl Strategy<Value = ShutdownRequest> {
    let cause = any_of(ShutdownCause::ALL);
    let flags = (any::<bool>(), any::<bool>());
    (cause, any::<Option<i32>>(), flags).prop_map(|(cause, exit_code, flags)| {
        let mut request = ShutdownRequest::new(cause);
        request.exit_code = exit_code;
        (request.poweroff, request.not_resettable) = flags;
        request
    })
}

fn latched() -> impl Strategy<Value = Latched> {
    let signal = proptest::option::of(
        (any::<u32>(), any::<u32>()).prop_map(|(number, pid)| Signal { number, pid }),
    );
    (
        any::<[bool; 8]>(),
        proptest::option::of(request()),
        signal,
        proptest::option::of(any_of(ShutdownCause::ALL)),
        proptest::option::of(any_of(WakeupReason::ALL)),
        proptest::option::of(state()),
    )
        .prop_map(|(flags, shutdown, signal, reset, wakeup, vmstop)| {
            let mut latched = Latched::default();
            [
                latched.panicked,
                latched.crashloaded,
                latched.suspend_disk,
                latched.pvshutdown,
                latched.watchdog,
                latched.debug,
                latched.suspend,
                latched.powerdown,
            ] = flags;
            latched.shutdown = shutdown;
            latched.signal = signal;
            latched.reset = reset;
            latched.wakeup = wakeup;
            latched.vmstop = vmstop;
            latched
        })
}

fn info() -> impl Strategy<Value = Option<PanicInfo>> {
    proptest::option::of(prop_oneof![
        any::<[u64; 5]>().prop_map(PanicInfo::HyperV),
        (
            any::<u32>(),
            any::<u64>(),
            any::<u64>(),
            any_of(S390CrashReason::ALL)
        )
            .prop_map(|(core, psw_mask, psw_addr, reason)| PanicInfo::S390 {
                core,
                psw_mask,
                psw_addr,
                reason
            }),
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let plain = &[
        Event::Stop,
        Event::Resume,
        Event::Suspend,
        Event::SuspendDisk,
        Event::Wakeup,
        Event::Powerdown,
        Event::GuestPvshutdown,
    ];
    let cause = || any_of(ShutdownCause::ALL);
    let action = || any_of(GuestPanicAction::ALL);
    prop_oneof![
        any_of(plain),
        cause().prop_map(|reason| Event::Reset {
            guest: reason.is_guest(),
            reason
        }),
        cause().prop_map(|reason| Event::Shutdown {
            guest: reason.is_guest(),
            reason
        }),
        any_of(WatchdogAction::ALL).prop_map(|action| Event::Watchdog { action }),
        (action(), info()).prop_map(|(action, info)| Event::GuestPanicked { action, info }),
        (action(), info()).prop_map(|(action, info)| Event::GuestCrashloaded { action, info }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let change = || (state(), state());
    let phase = || any_of(Phase::ALL);
    let plain = &[
        Happening::Deferred,
        Happening::Pausing,
        Happening::Paused,
        Happening::PauseFailed,
        Happening::Resumed,
        Happening::Exit,
    ];
    prop_oneof![
        any_of(plain),
        (phase(), situation(), latched()).prop_map(|(phase, now, latched)| Happening::Turn {
            phase,
            now,
            latched,
            actions: Policy::default().actions(),
        }),
        (situation(), any::<bool>()).prop_map(|(now, vmstop)| Happening::Start { now, vmstop }),
        (situation(), state(), any::<bool>()).prop_map(|(now, target, announced)| {
            Happening::Stop {
                now,
                target,
                announced,
            }
        }),
        state().prop_map(|to| Happening::Set { to }),
        change().prop_map(|(from, to)| Happening::State { from, to }),
        change().prop_map(|(from, to)| Happening::RolledBack { from, to }),
        change().prop_map(|(from, to)| Happening::Refused(InvalidTransition { from, to })),
        (phase(), state()).prop_map(|(phase, state)| Happening::Dropped { phase, state }),
        event().prop_map(Happening::Event),
    ]
}

/// The text is no line of a trace, or what it says is written and read as the same.
fn reads_back(text: &str) -> bool {
    text.parse::<TraceLine>()
        .map_or(true, |line| line.to_string().parse() == Ok(line))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_reads_back_as_it_was(
        sequence in any::<u64>(),
        ns in any::<u64>(),
        happening in happening(),
    ) {
        let line = TraceLine::Record {
            at: Duration::from_nanos(ns),
            record: TraceRecord { sequence, happening },
        };
        let text = line.to_string();
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(text.parse::<TraceLine>(), Ok(line), "{}", text);
    }

    #[test]
    fn a_line_that_is_cut_off_is_an_error_and_never_another_record(
        happening in happening(),
        keep in 0.0..1.0_f64,
    ) {
        let line = TraceLine::Record {
            at: Duration::from_nanos(5),
            record: TraceRecord { sequence: 7, happening },
        };
        let text = line.to_string();
        #[expect(
            clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "any length will do"
        )]
        let kept = (text.len() as f64 * keep) as usize;
        prop_assert!(text.get(..kept).unwrap_or_default().parse::<TraceLine>().is_err());
    }

    #[test]
    fn any_text_is_a_line_or_an_error(text in "\\PC*") {
        prop_assert!(reads_back(&text));
    }

    #[test]
    fn any_object_is_a_line_or_an_error(
        fields in proptest::collection::vec(("[a-z-]{1,12}", "\"[a-zA-Z-]{0,12}\"|-?[0-9]{1,22}|true|false"), 0..80)
    ) {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        let text = format!("{{{}}}", fields.join(","));
        prop_assert!(reads_back(&text));
    }
}

#[test]
fn the_header_says_how_the_rest_is_read() {
    for compat in [Compat::Qemu7_2, Compat::Current] {
        let header = TraceLine::Header(compat);
        assert_eq!(header.to_string().parse(), Ok(header));
    }
    let truncated = TraceLine::Truncated;
    assert_eq!(truncated.to_string(), r#"{"truncated":true}"#);
    assert_eq!(truncated.to_string().parse(), Ok(truncated));
    assert_eq!(
        TraceLine::Header(Compat::Current).to_string(),
        r#"{"trace":"lifecycle","version":1,"compat":"current"}"#
    );
}

#[test]
fn other_writers_of_json_are_understood() {
    let line = r#" { "what" : "event", "ns": 12, "event": "STOP" , "seq":3, "new": true } "#;
    assert_eq!(
        line.parse(),
        Ok(TraceLine::Record {
            at: Duration::from_nanos(12),
            record: TraceRecord {
                sequence: 3,
                happening: Happening::Event(Event::Stop),
            },
        })
    );
}

#[test]
fn what_is_no_line_says_why() {
    let cases = [
        ("", "the line is cut off"),
        ("{", "the line is cut off"),
        (r#"{"seq":1"#, "the line is cut off"),
        (r#"{"seq":1,"ns":2,"what":"sta"#, "the line is cut off"),
        ("[1]", "column 1: expected an object, {"),
        (r#"{"seq" 1}"#, "column 8: expected a colon"),
        (
            r#"{"seq":1;}"#,
            "column 9: expected a comma or the end of the object",
        ),
        (
            r#"{"seq":1.5}"#,
            "column 9: expected a comma or the end of the object",
        ),
        (
            r#"{"seq":[1]}"#,
            "column 8: expected a text, a whole number, true or false",
        ),
        (
            r#"{"se\u0071":1}"#,
            "column 5: expected a text without escapes",
        ),
        (r#"{"seq":1} {"#, "column 11: expected the end of the line"),
        (r#"{"seq":1,"seq":1}"#, r#"the field "seq" is there twice"#),
        ("{}", r#"the field "seq" is missing"#),
        (r#"{"seq":1}"#, r#"the field "what" is missing"#),
        (
            r#"{"seq":"1"}"#,
            r#"the field "seq" is not a whole number in its range"#,
        ),
        (
            r#"{"seq":99999999999999999999,"what":"exit","ns":1}"#,
            r#"the field "seq" is not a whole number in its range"#,
        ),
        (
            r#"{"seq":-1}"#,
            r#"the field "seq" is not a whole number in its range"#,
        ),
        (
            r#"{"seq":1,"what":"dance"}"#,
            r#"the field "what" cannot be "dance""#,
        ),
        (
            r#"{"seq":1,"what":"set","to":"asleep"}"#,
            r#"the field "to" cannot be "asleep""#,
        ),
        (r#"{"seq":1,"what":7}"#, r#"the field "what" is not a text"#),
        (
            r#"{"seq":1,"what":"start","state":"paused","vmstop":"yes"}"#,
            r#"the field "vmstop" is not true or false"#,
        ),
        (
            r#"{"trace":"lifecycle","version":2,"compat":"current"}"#,
            "not a lifecycle trace of version 1",
        ),
        (
            r#"{"trace":"block","version":1}"#,
            "not a lifecycle trace of version 1",
        ),
        (
            r#"{"trace":"lifecycle","version":1,"compat":"newer"}"#,
            r#"the field "compat" cannot be "newer""#,
        ),
    ];
    for (line, expected) in cases {
        let error = line.parse::<TraceLine>().expect_err(line);
        assert_eq!(error.to_string(), expected, "{line}");
    }
    let many: Vec<String> = (0..100).map(|n| format!("\"f{n}\":{n}")).collect();
    let error = format!("{{{}}}", many.join(",")).parse::<TraceLine>();
    assert_eq!(error, Err(TraceLineError::TooManyFields));
}

#[test]
fn a_machine_tells_its_whole_trace_while_it_goes_and_the_text_of_it_plays_back() {
    let (vm, notes) = running(Compat::Current);
    vm.set_trace_capacity(4);
    notes.traced.borrow_mut().clear();
    vm.requests().reset(ShutdownCause::GuestReset);
    vm.dispatch();
    vm.requests().suspend();
    vm.dispatch();
    vm.stop(RunState::Paused).expect("stops");
    vm.start().expect("starts");
    let text: Vec<String> = notes
        .traced
        .borrow()
        .iter()
        .zip(1..)
        .map(|(record, ns)| {
            let (at, record) = (Duration::from_nanos(ns), *record);
            TraceLine::Record { at, record }.to_string()
        })
        .collect();
    assert!(text.len() > 12, "more than the trace keeps: {text:#?}");
    let record = |line: &String| match line.parse() {
        Ok(TraceLine::Record { record, .. }) => Some(record),
        _ => None,
    };
    let records: Vec<TraceRecord> = text.iter().filter_map(record).collect();
    assert_eq!(records.len(), text.len());
    let numbers: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, (0..).take(numbers.len()).collect::<Vec<_>>());
    assert_eq!(
        replay(&records, Compat::Current),
        Ok(Some(RunState::Suspended))
    );
    // What a file lacks in the middle is not held against what follows.
    let gap: Vec<_> = records
        .iter()
        .filter(|record| !(5..12).contains(&record.sequence))
        .collect();
    assert_eq!(replay(gap, Compat::Current), Ok(Some(RunState::Suspended)));
    // A pause and its end, an event and its state are all there.
    let kinds: Vec<_> = records.iter().map(|r| r.happening.kind()).collect();
    for kind in [
        "turn", "pausing", "paused", "resumed", "event", "state", "stop", "start",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
}
