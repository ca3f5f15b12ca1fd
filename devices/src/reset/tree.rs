//! The tree that resets are run over, and the register of devices that cannot be reset.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use super::plan::{self, Shape, Shapes};
use super::{MAX_RESETS, Phase, ResetType, Resettable};
use crate::Error;
use crate::sync::Guarded;

/// A node of a [`ResetTree`]; it means nothing to another tree. Never reused, not even after the
/// node was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

/// A device that was declared to have no reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreset {
    /// The device.
    pub name: String,
    /// Why it has none.
    pub reason: String,
}

/// What is at a node.
#[derive(Clone)]
enum Role {
    /// A bus or a board: only its children are reset.
    Group,
    /// A device.
    Device(Arc<dyn Resettable>),
    /// A device without reset, and why.
    Unreset(String),
}

struct Inner {
    shapes: Shapes,
    labels: BTreeMap<u64, (String, Role)>,
    next: u64,
    phase: Option<Phase>,
}

/// Devices and buses, and the resets that are run over them. See the [module](super) for the
/// phases.
///
/// Belongs to the thread that resets, though every method may be called from any: while a phase
/// runs, each other call is refused with [`Error::InPhase`]. No lock is held while a device is
/// called.
pub struct ResetTree {
    inner: Guarded<Inner>,
}

impl ResetTree {
    /// A tree with a root that is no device (the machine).
    pub fn new() -> Self {
        let mut shapes = Shapes::new();
        shapes.insert(ROOT, Shape::default());
        let mut labels = BTreeMap::new();
        labels.insert(ROOT, ("machine".to_owned(), Role::Group));
        Self {
            inner: Guarded::new(Inner {
                shapes,
                labels,
                next: 1,
                phase: None,
            }),
        }
    }

    /// The root.
    pub fn root(&self) -> NodeId {
        NodeId(ROOT)
    }

    /// Adds a device below `parent`, after the children that are there. Below a parent that is held
    /// in reset, the device goes into reset at once.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::InPhase`].
    pub fn add(
        &self,
        parent: NodeId,
        name: &str,
        device: Arc<dyn Resettable>,
    ) -> Result<NodeId, Error> {
        self.insert(parent, name, Role::Device(device))
    }

    /// Adds a bus, or another group of devices that has no reset of its own.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_group(&self, parent: NodeId, name: &str) -> Result<NodeId, Error> {
        self.insert(parent, name, Role::Group)
    }

    /// Adds a device that has no reset, and says why. A device that is simply not on the tree is a
    /// bug that nobody sees; this one is listed by [`unreset`](Self::unreset).
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_unreset(&self, parent: NodeId, name: &str, reason: &str) -> Result<NodeId, Error> {
        self.insert(parent, name, Role::Unreset(reason.to_owned()))
    }

    /// Every device without a reset, in the order in which they were added.
    pub fn unreset(&self) -> Vec<Unreset> {
        let inner = self.inner.lock();
        let unreset = inner.labels.values().filter_map(|(name, role)| match role {
            Role::Unreset(reason) => Some(Unreset {
                name: name.clone(),
                reason: reason.clone(),
            }),
            Role::Group | Role::Device(_) => None,
        });
        unreset.collect()
    }

    /// Removes a node with everything below it. No phase is run: a device that goes away does not
    /// come out of reset, and nobody else's count changes.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`] (also for the root, which stays), [`Error::InPhase`].
    pub fn remove(&self, node: NodeId) -> Result<(), Error> {
        let mut inner = self.idle()?;
        let id = inner.known(node)?;
        let Some(parent) = inner.shapes.get(&id).and_then(|shape| shape.parent) else {
            return Err(Error::UnknownNode(node));
        };
        if let Some(shape) = inner.shapes.get_mut(&parent) {
            shape.children.retain(|child| *child != id);
        }
        for gone in plan::post_order(&inner.shapes, id) {
            inner.shapes.remove(&gone);
            inner.labels.remove(&gone);
        }
        Ok(())
    }

    /// Moves a node, with everything below it, to the end of another parent's children.
    ///
    /// The node keeps the resets asserted on itself and trades its old parent's for its new one's:
    /// it goes into reset if only the new parent is held, comes out if only the old one was,
    /// and notices nothing otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::InPhase`], [`Error::Cycle`], [`Error::TooManyResets`].
    /// Nothing has then changed.
    pub fn change_parent(
        &self,
        node: NodeId,
        parent: NodeId,
        kind: ResetType,
    ) -> Result<(), Error> {
        let mut inner = self.idle()?;
        let id = inner.known(node)?;
        let to = inner.known(parent)?;
        let from = inner.shapes.get(&id).and_then(|shape| shape.parent);
        let Some(from) = from.filter(|_| !plan::is_below(&inner.shapes, to, id)) else {
            return Err(Error::Cycle {
                name: inner.name(id),
                parent: inner.name(to),
            });
        };
        let (old, new) = (inner.count(from), inner.count(to));
        inner.check_depth(id, new.saturating_sub(old))?;
        for (parent, join) in [(from, false), (to, true)] {
            if let Some(shape) = inner.shapes.get_mut(&parent) {
                shape.children.retain(|child| *child != id);
                if join {
                    shape.children.push(id);
                }
            }
        }
        if let Some(shape) = inner.shapes.get_mut(&id) {
            shape.parent = Some(to);
        }
        let entered = plan::assert(&mut inner.shapes, id, new.saturating_sub(old));
        let exited = plan::release(&mut inner.shapes, id, old.saturating_sub(new));
        let (entered, exited) = (inner.devices(&entered), inner.devices(&exited));
        let run = self.begin(inner, kind);
        run.phase(Phase::Enter, &entered);
        run.phase(Phase::Hold, &entered);
        run.phase(Phase::Exit, &exited);
        Ok(())
    }

    /// Puts the subtree of `node` into reset: enter, then hold. It stays there until
    /// [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::InPhase`], [`Error::TooManyResets`]. Nothing has then
    /// changed.
    pub fn assert(&self, node: NodeId, kind: ResetType) -> Result<(), Error> {
        let mut inner = self.idle()?;
        let id = inner.known(node)?;
        inner.check_depth(id, 1)?;
        let entered = plan::assert(&mut inner.shapes, id, 1);
        if let Some(shape) = inner.shapes.get_mut(&id) {
            shape.own = shape.own.saturating_add(1);
        }
        let entered = inner.devices(&entered);
        let run = self.begin(inner, kind);
        run.phase(Phase::Enter, &entered);
        run.phase(Phase::Hold, &entered);
        Ok(())
    }

    /// Takes back one [`assert`](Self::assert) of the same node: exit, where it was the last.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`], [`Error::InPhase`], [`Error::NotInReset`]. Nothing has then changed.
    pub fn release(&self, node: NodeId, kind: ResetType) -> Result<(), Error> {
        let mut inner = self.idle()?;
        let id = inner.known(node)?;
        let name = inner.name(id);
        match inner.shapes.get_mut(&id) {
            Some(shape) if shape.own > 0 => shape.own = shape.own.saturating_sub(1),
            _ => return Err(Error::NotInReset { name }),
        }
        let exited = plan::release(&mut inner.shapes, id, 1);
        let exited = inner.devices(&exited);
        self.begin(inner, kind).phase(Phase::Exit, &exited);
        Ok(())
    }

    /// A whole reset of the subtree of `node`: assert and release as one. What somebody else holds
    /// in reset stays in it and is not called.
    ///
    /// # Errors
    ///
    /// As [`assert`](Self::assert).
    pub fn reset(&self, node: NodeId, kind: ResetType) -> Result<(), Error> {
        let mut inner = self.idle()?;
        let id = inner.known(node)?;
        inner.check_depth(id, 1)?;
        let devices = plan::assert(&mut inner.shapes, id, 1);
        let devices = inner.devices(&devices);
        let mut run = self.begin(inner, kind);
        run.counted = Some(id);
        run.phase(Phase::Enter, &devices);
        run.phase(Phase::Hold, &devices);
        // Nobody could assert, add or move anything meanwhile: who went in is who comes out.
        run.uncount();
        run.phase(Phase::Exit, &devices);
        Ok(())
    }

    /// Whether a node is held in reset, by itself or from above.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownNode`].
    pub fn in_reset(&self, node: NodeId) -> Result<bool, Error> {
        let inner = self.inner.lock();
        let id = inner.known(node)?;
        Ok(inner.count(id) > 0)
    }

    /// The tree, provided that no phase is running.
    fn idle(&self) -> Result<MutexGuard<'_, Inner>, Error> {
        let inner = self.inner.lock();
        match inner.phase {
            Some(phase) => Err(Error::InPhase(phase)),
            None => Ok(inner),
        }
    }

    fn insert(&self, parent: NodeId, name: &str, role: Role) -> Result<NodeId, Error> {
        let mut inner = self.idle()?;
        let parent = inner.known(parent)?;
        let id = inner.next;
        inner.next = id.saturating_add(1);
        inner.shapes.insert(
            id,
            Shape {
                parent: Some(parent),
                ..Shape::default()
            },
        );
        inner.labels.insert(id, (name.to_owned(), role));
        let held = inner.shapes.get_mut(&parent).map_or(0, |shape| {
            shape.children.push(id);
            shape.count
        });
        let entered = plan::assert(&mut inner.shapes, id, held);
        let entered = inner.devices(&entered);
        let run = self.begin(inner, ResetType::Cold);
        run.phase(Phase::Enter, &entered);
        run.phase(Phase::Hold, &entered);
        Ok(NodeId(id))
    }

    /// From here to the end of the run the tree belongs to the run.
    fn begin(&self, mut inner: MutexGuard<'_, Inner>, kind: ResetType) -> Run<'_> {
        inner.phase = Some(Phase::Enter);
        Run {
            tree: self,
            kind,
            counted: None,
        }
    }
}

/// The root's number.
const ROOT: u64 = 0;

/// Phases being run. When it is dropped, also by a device's panic, the tree is idle again.
struct Run<'a> {
    tree: &'a ResetTree,
    kind: ResetType,
    /// The subtree that is counted as in reset for as long as the run lasts.
    counted: Option<u64>,
}

impl Run<'_> {
    fn phase(&self, phase: Phase, devices: &[Arc<dyn Resettable>]) {
        self.tree.inner.lock().phase = Some(phase);
        for device in devices {
            match phase {
                Phase::Enter => device.enter(self.kind),
                Phase::Hold => device.hold(self.kind),
                Phase::Exit => device.exit(self.kind),
            }
        }
    }

    fn uncount(&mut self) {
        if let Some(root) = self.counted.take() {
            plan::release(&mut self.tree.inner.lock().shapes, root, 1);
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.uncount();
        self.tree.inner.lock().phase = None;
    }
}

impl Inner {
    fn name(&self, id: u64) -> String {
        self.labels
            .get(&id)
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    }

    fn count(&self, id: u64) -> u32 {
        self.shapes.get(&id).map_or(0, |shape| shape.count)
    }

    fn known(&self, node: NodeId) -> Result<u64, Error> {
        let known = self.shapes.contains_key(&node.0);
        known.then_some(node.0).ok_or(Error::UnknownNode(node))
    }

    fn check_depth(&self, id: u64, times: u32) -> Result<(), Error> {
        match plan::too_deep(&self.shapes, id, times, MAX_RESETS) {
            Some(id) => Err(Error::TooManyResets {
                name: self.name(id),
                limit: MAX_RESETS,
            }),
            None => Ok(()),
        }
    }

    fn devices(&self, ids: &[u64]) -> Vec<Arc<dyn Resettable>> {
        let roles = ids.iter().filter_map(|id| self.labels.get(id));
        roles
            .filter_map(|(_, role)| match role {
                Role::Device(device) => Some(Arc::clone(device)),
                Role::Group | Role::Unreset(_) => None,
            })
            .collect()
    }
}

impl Default for ResetTree {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ResetTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("ResetTree")
            .field(
                "nodes",
                &inner
                    .labels
                    .values()
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>(),
            )
            .field("phase", &inner.phase)
            .finish_non_exhaustive()
    }
}
