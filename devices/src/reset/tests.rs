use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::*;
use crate::Error;
use crate::sync::Guarded;

type Log = Arc<Guarded<Vec<String>>>;

struct Noter {
    name: &'static str,
    log: Log,
}

impl Noter {
    fn note(&self, phase: &str, kind: ResetType) {
        self.log
            .lock()
            .push(format!("{phase} {} {kind:?}", self.name));
    }
}

impl Resettable for Noter {
    fn enter(&self, kind: ResetType) {
        self.note("enter", kind);
    }
    fn hold(&self, kind: ResetType) {
        self.note("hold", kind);
    }
    fn exit(&self, kind: ResetType) {
        self.note("exit", kind);
    }
}

/// machine ─┬─ bridge ─┬─ nic
///          │          └─ disk
///          └─ rtc
struct Rig {
    tree: ResetTree,
    log: Log,
    bridge: NodeId,
    nic: NodeId,
    rtc: NodeId,
}

impl Rig {
    fn new() -> Self {
        let (tree, log) = (ResetTree::new(), Log::default());
        let noter = |name| {
            Arc::new(Noter {
                name,
                log: Arc::clone(&log),
            })
        };
        let bridge = tree.add(tree.root(), "bridge", noter("bridge")).unwrap();
        let nic = tree.add(bridge, "nic", noter("nic")).unwrap();
        tree.add(bridge, "disk", noter("disk")).unwrap();
        let rtc = tree.add(tree.root(), "rtc", noter("rtc")).unwrap();
        Self {
            tree,
            log,
            bridge,
            nic,
            rtc,
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }
}

/// "enter nic,disk" to the lines that a log then holds.
fn calls(script: &str, kind: ResetType) -> Vec<String> {
    let phases = script
        .split(';')
        .map(str::trim)
        .filter(|phase| !phase.is_empty());
    phases
        .flat_map(|phase| {
            let (phase, names) = phase.split_once(' ').unwrap();
            names
                .split(',')
                .map(move |name| format!("{phase} {name} {kind:?}"))
        })
        .collect()
}

#[test]
fn each_phase_runs_over_the_tree_children_first() {
    for kind in [ResetType::Cold, ResetType::Wakeup, ResetType::SnapshotLoad] {
        let rig = Rig::new();
        rig.tree.reset(rig.tree.root(), kind).unwrap();
        let all = "nic,disk,bridge,rtc";
        assert_eq!(
            rig.take(),
            calls(&format!("enter {all}; hold {all}; exit {all}"), kind)
        );
    }
}

#[test]
fn a_subtree_is_reset_alone() {
    let rig = Rig::new();
    rig.tree.reset(rig.bridge, ResetType::Cold).unwrap();
    let all = "nic,disk,bridge";
    let script = format!("enter {all}; hold {all}; exit {all}");
    assert_eq!(rig.take(), calls(&script, ResetType::Cold));
}

#[test]
fn nested_resets_are_counted() {
    let rig = Rig::new();
    rig.tree.assert(rig.nic, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), calls("enter nic; hold nic", ResetType::Cold));
    // The NIC is in reset already: counted, not called.
    rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    assert_eq!(
        rig.take(),
        calls("enter disk,bridge; hold disk,bridge", ResetType::Cold)
    );
    rig.tree.reset(rig.tree.root(), ResetType::Cold).unwrap();
    assert_eq!(
        rig.take(),
        calls("enter rtc; hold rtc; exit rtc", ResetType::Cold)
    );
    rig.tree.release(rig.nic, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), [""; 0]);
    assert!(rig.tree.in_reset(rig.nic).unwrap());
    rig.tree.release(rig.bridge, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), calls("exit nic,disk,bridge", ResetType::Cold));
    assert!(!rig.tree.in_reset(rig.nic).unwrap());
}

#[test]
fn what_the_parent_asserted_the_child_cannot_release() {
    let rig = Rig::new();
    rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    let error = rig.tree.release(rig.nic, ResetType::Cold).unwrap_err();
    assert_eq!(error, Error::NotInReset { name: "nic".into() });
    assert_eq!(
        rig.tree.release(rig.rtc, ResetType::Cold),
        Err(Error::NotInReset { name: "rtc".into() })
    );
}

#[test]
fn nesting_is_bounded_and_an_error_changes_nothing() {
    let rig = Rig::new();
    for _ in 0..MAX_RESETS {
        rig.tree.assert(rig.nic, ResetType::Cold).unwrap();
    }
    rig.take();
    // The bridge is not in reset, but its child has no room.
    for node in [rig.nic, rig.bridge, rig.tree.root()] {
        let error = rig.tree.assert(node, ResetType::Cold).unwrap_err();
        assert_eq!(
            error,
            Error::TooManyResets {
                name: "nic".into(),
                limit: 50
            }
        );
        assert_eq!(rig.tree.reset(node, ResetType::Cold).unwrap_err(), error);
    }
    assert_eq!(rig.take(), [""; 0]);
    assert!(!rig.tree.in_reset(rig.bridge).unwrap());
    for _ in 0..MAX_RESETS {
        rig.tree.release(rig.nic, ResetType::Cold).unwrap();
    }
    assert_eq!(rig.take(), calls("exit nic", ResetType::Cold));
}

#[test]
fn a_device_added_below_a_held_parent_goes_into_reset() {
    let rig = Rig::new();
    rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    rig.tree.assert(rig.tree.root(), ResetType::Cold).unwrap();
    rig.take();
    let late = Arc::new(Noter {
        name: "late",
        log: Arc::clone(&rig.log),
    });
    rig.tree.add(rig.bridge, "late", late).unwrap();
    assert_eq!(rig.take(), calls("enter late; hold late", ResetType::Cold));
    rig.tree.release(rig.bridge, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), [""; 0]);
    rig.tree.release(rig.tree.root(), ResetType::Cold).unwrap();
    assert_eq!(
        rig.take(),
        calls("exit nic,disk,late,bridge,rtc", ResetType::Cold)
    );
}

#[test]
fn a_move_trades_the_old_parents_resets_for_the_new_ones() {
    let rig = Rig::new();
    let other = rig.tree.add_group(rig.tree.root(), "other").unwrap();
    rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    rig.take();
    // Out of a held bus: comes out of reset.
    rig.tree
        .change_parent(rig.nic, other, ResetType::Wakeup)
        .unwrap();
    assert_eq!(rig.take(), calls("exit nic", ResetType::Wakeup));
    // Into a held bus: goes in.
    rig.tree
        .change_parent(rig.nic, rig.bridge, ResetType::Cold)
        .unwrap();
    assert_eq!(rig.take(), calls("enter nic; hold nic", ResetType::Cold));
    // From one held bus to another: notices nothing.
    rig.tree.assert(other, ResetType::Cold).unwrap();
    rig.tree
        .change_parent(rig.nic, other, ResetType::Cold)
        .unwrap();
    assert_eq!(rig.take(), [""; 0]);
    // Held by itself as well: stays in reset when its parent lets go.
    rig.tree.assert(rig.nic, ResetType::Cold).unwrap();
    rig.tree.release(other, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), [""; 0]);
    rig.tree.release(rig.nic, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), calls("exit nic", ResetType::Cold));
}

#[test]
fn a_move_makes_no_cycle_and_no_overflow() {
    let rig = Rig::new();
    for (node, parent) in [
        (rig.bridge, rig.nic),
        (rig.bridge, rig.bridge),
        (rig.tree.root(), rig.rtc),
        (rig.tree.root(), rig.tree.root()),
    ] {
        let error = rig
            .tree
            .change_parent(node, parent, ResetType::Cold)
            .unwrap_err();
        assert!(matches!(error, Error::Cycle { .. }), "{error}");
    }
    rig.tree.assert(rig.rtc, ResetType::Cold).unwrap();
    for _ in 0..MAX_RESETS {
        rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    }
    let error = rig
        .tree
        .change_parent(rig.rtc, rig.bridge, ResetType::Cold)
        .unwrap_err();
    assert!(matches!(error, Error::TooManyResets { .. }), "{error}");
}

#[test]
fn a_removed_device_is_not_called_and_leaves_the_others_alone() {
    let rig = Rig::new();
    rig.tree.assert(rig.bridge, ResetType::Cold).unwrap();
    rig.take();
    rig.tree.remove(rig.nic).unwrap();
    assert_eq!(rig.take(), [""; 0]);
    rig.tree.release(rig.bridge, ResetType::Cold).unwrap();
    assert_eq!(rig.take(), calls("exit disk,bridge", ResetType::Cold));
    for error in [
        rig.tree.remove(rig.nic).unwrap_err(),
        rig.tree.assert(rig.nic, ResetType::Cold).unwrap_err(),
        rig.tree.in_reset(rig.nic).unwrap_err(),
    ] {
        assert_eq!(error, Error::UnknownNode(rig.nic));
    }
    rig.tree.remove(rig.bridge).unwrap();
    rig.tree.reset(rig.tree.root(), ResetType::Cold).unwrap();
    assert_eq!(
        rig.take(),
        calls("enter rtc; hold rtc; exit rtc", ResetType::Cold)
    );
    assert_eq!(
        rig.tree.remove(rig.tree.root()),
        Err(Error::UnknownNode(rig.tree.root()))
    );
}

#[test]
fn devices_without_a_reset_are_listed_with_their_reason() {
    let rig = Rig::new();
    rig.tree
        .add_unreset(rig.bridge, "rom", "is never written")
        .unwrap();
    let rom = Unreset {
        name: "rom".into(),
        reason: "is never written".into(),
    };
    assert_eq!(rig.tree.unreset(), [rom]);
    rig.tree.reset(rig.tree.root(), ResetType::Cold).unwrap();
}

/// Asks the tree for things from within a phase.
struct Meddler {
    tree: Guarded<Option<Arc<ResetTree>>>,
    refused: Guarded<Vec<Phase>>,
}

impl Meddler {
    fn meddle(&self, phase: Phase) {
        let tree = self.tree.lock().clone().unwrap();
        let root = tree.root();
        for result in [
            tree.reset(root, ResetType::Cold),
            tree.assert(root, ResetType::Cold),
            tree.release(root, ResetType::Cold),
            tree.add_group(root, "more").map(|_| ()),
            tree.remove(root),
            tree.change_parent(root, root, ResetType::Cold),
        ] {
            assert_eq!(result, Err(Error::InPhase(phase)));
        }
        assert!(tree.in_reset(root).unwrap() || phase == Phase::Exit);
        self.refused.lock().push(phase);
    }
}

impl Resettable for Meddler {
    fn enter(&self, _kind: ResetType) {
        self.meddle(Phase::Enter);
    }
    fn hold(&self, _kind: ResetType) {
        self.meddle(Phase::Hold);
    }
    fn exit(&self, _kind: ResetType) {
        self.meddle(Phase::Exit);
    }
}

#[test]
fn a_phase_is_never_re_entered() {
    let tree = Arc::new(ResetTree::new());
    let meddler = Arc::new(Meddler {
        tree: Guarded::default(),
        refused: Guarded::default(),
    });
    *meddler.tree.lock() = Some(Arc::clone(&tree));
    tree.add(tree.root(), "meddler", meddler.clone()).unwrap();
    tree.reset(tree.root(), ResetType::Cold).unwrap();
    assert_eq!(
        *meddler.refused.lock(),
        [Phase::Enter, Phase::Hold, Phase::Exit]
    );
    tree.reset(tree.root(), ResetType::Cold).unwrap();
}

#[test]
fn a_device_that_panics_leaves_the_tree_usable() {
    struct Panics(Guarded<Option<Phase>>);
    impl Panics {
        fn at(&self, phase: Phase) {
            let now = *self.0.lock() == Some(phase);
            assert!(!now, "told to");
        }
    }
    impl Resettable for Panics {
        fn enter(&self, _kind: ResetType) {
            self.at(Phase::Enter);
        }
        fn hold(&self, _kind: ResetType) {
            self.at(Phase::Hold);
        }
        fn exit(&self, _kind: ResetType) {
            self.at(Phase::Exit);
        }
    }
    let rig = Rig::new();
    let device = Arc::new(Panics(Guarded::default()));
    rig.tree
        .add(rig.tree.root(), "panics", device.clone())
        .unwrap();
    for phase in [Phase::Enter, Phase::Hold, Phase::Exit] {
        *device.0.lock() = Some(phase);
        let reset = || rig.tree.reset(rig.tree.root(), ResetType::Cold);
        catch_unwind(AssertUnwindSafe(reset)).unwrap_err();
        assert!(!rig.tree.in_reset(rig.tree.root()).unwrap());
        *device.0.lock() = None;
        rig.take();
        reset().unwrap();
        assert_eq!(rig.take().len(), 12);
    }
}

#[test]
fn a_deep_tree_needs_no_stack() {
    let (tree, log) = (ResetTree::new(), Log::default());
    let mut at = tree.root();
    for _ in 0..20_000 {
        at = tree.add_group(at, "bridge").unwrap();
    }
    tree.add(
        at,
        "leaf",
        Arc::new(Noter {
            name: "leaf",
            log: Arc::clone(&log),
        }),
    )
    .unwrap();
    tree.reset(tree.root(), ResetType::Cold).unwrap();
    assert_eq!(log.lock().len(), 3);
}
