//! What a reset does, as a pure function: from tree and counts to the devices to call, in order.

use std::collections::BTreeMap;

/// A node as the planner sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) parent: Option<u64>,
    /// In the order in which they were added.
    pub(super) children: Vec<u64>,
    /// How many asserts hold it: its own and every ancestor's.
    pub(super) count: u32,
    /// How many of `count` were asserted on this node itself.
    pub(super) own: u32,
}

pub(super) type Shapes = BTreeMap<u64, Shape>;

/// The subtree of `root`, children before their parent, siblings in the order in which they were
/// added.
pub(super) fn post_order(shapes: &Shapes, root: u64) -> Vec<u64> {
    // Visiting parents first and siblings last-to-first, then reversing, needs no recursion: a tree
    // may be deep.
    let mut order = Vec::new();
    let mut stack = vec![root];
    while let Some(id) = stack.pop() {
        order.push(id);
        if let Some(shape) = shapes.get(&id) {
            stack.extend(&shape.children);
        }
    }
    order.reverse();
    order
}

/// Whether `node` is `ancestor` or below it.
pub(super) fn is_below(shapes: &Shapes, node: u64, ancestor: u64) -> bool {
    let mut at = Some(node);
    while let Some(id) = at {
        if id == ancestor {
            return true;
        }
        at = shapes.get(&id).and_then(|shape| shape.parent);
    }
    false
}

/// The first node below `root` that `times` more asserts would take past `limit`.
pub(super) fn too_deep(shapes: &Shapes, root: u64, times: u32, limit: u32) -> Option<u64> {
    post_order(shapes, root).into_iter().find(|id| {
        shapes
            .get(id)
            .is_some_and(|s| s.count.saturating_add(times) > limit)
    })
}

/// Counts `times` asserts on the subtree of `root`. Returns the nodes that go into reset by it:
/// those whose `enter`, and then `hold`, are to be called.
pub(super) fn assert(shapes: &mut Shapes, root: u64, times: u32) -> Vec<u64> {
    let mut order = post_order(shapes, root);
    order.retain(|id| {
        let Some(shape) = shapes.get_mut(id) else {
            return false;
        };
        let fresh = shape.count == 0 && times > 0;
        shape.count = shape.count.saturating_add(times);
        fresh
    });
    order
}

/// Takes `times` asserts off the subtree of `root`. Returns the nodes that come out of reset by it:
/// those whose `exit` is to be called.
pub(super) fn release(shapes: &mut Shapes, root: u64, times: u32) -> Vec<u64> {
    let mut order = post_order(shapes, root);
    order.retain(|id| {
        let Some(shape) = shapes.get_mut(id) else {
            return false;
        };
        let held = shape.count > 0;
        shape.count = shape.count.saturating_sub(times);
        held && shape.count == 0
    });
    order
}
