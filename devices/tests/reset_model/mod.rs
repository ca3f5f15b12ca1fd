//! Reset over a tree, as a model: a device is in reset while it, or anybody above it, is asserted.
//!
//! The model keeps no counts: it asks who is asserted. Each device's calls are compared with when
//! it goes in and comes out, and each phase's order with "children first".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use devices::reset::MAX_RESETS;
use devices::{Error, NodeId, ResetTree, ResetType, Resettable};

type Log = Arc<Mutex<Vec<(char, usize)>>>;

struct Device {
    number: usize,
    log: Log,
}

impl Device {
    fn note(&self, phase: char) {
        self.log.lock().unwrap().push((phase, self.number));
    }
}

impl Resettable for Device {
    fn enter(&self, _kind: ResetType) {
        self.note('e');
    }
    fn hold(&self, _kind: ResetType) {
        self.note('h');
    }
    fn exit(&self, _kind: ResetType) {
        self.note('x');
    }
}

#[derive(Clone)]
struct Node {
    id: NodeId,
    parent: Option<usize>,
    asserted: u32,
}

struct Model {
    tree: ResetTree,
    log: Log,
    nodes: BTreeMap<usize, Node>,
    next: usize,
}

impl Model {
    fn path(&self, number: usize) -> Vec<usize> {
        let mut path = vec![number];
        while let Some(parent) = self.nodes[path.last().unwrap()].parent {
            path.push(parent);
        }
        path
    }

    fn depth(&self, number: usize) -> u32 {
        self.path(number)
            .iter()
            .map(|at| self.nodes[at].asserted)
            .sum()
    }

    fn held(&self) -> BTreeMap<usize, bool> {
        self.nodes
            .keys()
            .map(|at| (*at, self.depth(*at) > 0))
            .collect()
    }

    fn below(&self, number: usize) -> Vec<usize> {
        self.nodes
            .keys()
            .copied()
            .filter(|at| self.path(*at).contains(&number))
            .collect()
    }

    fn deepest(&self, number: usize) -> u32 {
        self.below(number)
            .into_iter()
            .map(|at| self.depth(at))
            .max()
            .unwrap()
    }

    fn pick(&self, byte: u8) -> usize {
        *self
            .nodes
            .keys()
            .nth(usize::from(byte) % self.nodes.len())
            .unwrap()
    }

    /// Compares the calls with who went in and who came out.
    fn check(&self, before: &BTreeMap<usize, bool>, pulsed: &[usize]) {
        let log = std::mem::take(&mut *self.log.lock().unwrap());
        let after = self.held();
        for phase in ['e', 'h', 'x'] {
            let called: Vec<_> = log.iter().filter(|c| c.0 == phase).map(|c| c.1).collect();
            let mut expected: Vec<_> = after
                .iter()
                .filter(|(at, held)| {
                    let was = before.get(at).copied().unwrap_or(false);
                    let moved = if phase == 'x' {
                        was && !**held
                    } else {
                        !was && **held
                    };
                    moved || pulsed.contains(at)
                })
                .map(|(at, _)| *at)
                .filter(|at| *at != 0)
                .collect();
            let mut sorted = called.clone();
            sorted.sort_unstable();
            expected.sort_unstable();
            assert_eq!(sorted, expected, "phase {phase}");
            for (index, child) in called.iter().enumerate() {
                let above = self.path(*child);
                let early = called[..index].iter().find(|other| above.contains(other));
                assert_eq!(early, None, "{child} after its parent in {phase}");
            }
        }
        let order: String = log.iter().map(|call| call.0).collect();
        assert!(
            !order.contains("he") && !order.contains("xe") && !order.contains("xh"),
            "{order}"
        );
        for (at, held) in after {
            assert_eq!(self.tree.in_reset(self.nodes[&at].id), Ok(held));
        }
    }
}

/// Runs what `bytes` say. Panics where the tree and the model differ.
pub(crate) fn run(bytes: &[u8]) {
    let tree = ResetTree::new();
    let root = Node {
        id: tree.root(),
        parent: None,
        asserted: 0,
    };
    let nodes = BTreeMap::from([(0, root)]);
    let mut model = Model {
        tree,
        log: Log::default(),
        nodes,
        next: 1,
    };
    for op in bytes.chunks_exact(3) {
        step(&mut model, op[0], op[1], op[2]);
    }
}

fn step(model: &mut Model, op: u8, first: u8, second: u8) {
    let before = model.held();
    let number = model.pick(first);
    let Node {
        id,
        parent,
        asserted,
    } = model.nodes[&number].clone();
    let cold = ResetType::Cold;
    let mut pulsed = Vec::new();
    match op % 8 {
        0 | 1 => {
            let number = model.next;
            model.next += 1;
            let device = Arc::new(Device {
                number,
                log: Arc::clone(&model.log),
            });
            let id_of_child = model.tree.add(id, "device", device).unwrap();
            let parent = Some(model.pick(first));
            model.nodes.insert(
                number,
                Node {
                    id: id_of_child,
                    parent,
                    asserted: 0,
                },
            );
        }
        2 => {
            let times = if second > 0xf0 { 60 } else { 1 };
            for _ in 0..times {
                let fits = model.deepest(number) < MAX_RESETS;
                let result = model.tree.assert(id, cold);
                assert_eq!(result.is_ok(), fits, "{result:?}");
                model.nodes.get_mut(&number).unwrap().asserted += u32::from(fits);
            }
        }
        3 => {
            let result = model.tree.release(id, cold);
            assert_eq!(result.is_ok(), asserted > 0, "{result:?}");
            model.nodes.get_mut(&number).unwrap().asserted = asserted.saturating_sub(1);
        }
        4 | 5 => {
            let fits = model.deepest(number) < MAX_RESETS;
            assert_eq!(model.tree.reset(id, cold).is_ok(), fits);
            if fits {
                pulsed = model.below(number);
                pulsed.retain(|at| !before[at]);
            }
        }
        6 => {
            let result = model.tree.remove(id);
            assert_eq!(result.is_ok(), parent.is_some());
            if parent.is_some() {
                for gone in model.below(number) {
                    model.nodes.remove(&gone);
                }
            }
        }
        _ => {
            let to = model.pick(second);
            let result = model.tree.change_parent(id, model.nodes[&to].id, cold);
            let Some(parent) = parent.filter(|_| !model.path(to).contains(&number)) else {
                assert!(matches!(result, Err(Error::Cycle { .. })), "{result:?}");
                return;
            };
            let (old, new) = (model.depth(parent), model.depth(to));
            let fits = new <= old || model.deepest(number) + (new - old) <= MAX_RESETS;
            assert_eq!(result.is_ok(), fits, "{result:?}");
            if fits {
                model.nodes.get_mut(&number).unwrap().parent = Some(to);
            }
        }
    }
    model.check(&before, &pulsed);
}
