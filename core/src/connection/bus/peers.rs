//! How far each other node was heard: a hole in its numbers means that something was lost.

use campanile_model::NodeId;
use std::{collections::HashMap, time::Instant};

/// More nodes than this don't share a bus; past it the longest silent one is forgotten.
const NODES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Peers(HashMap<NodeId, (u64, Instant)>);

impl Peers {
    /// How many messages of this node are missing before this one. The first that is heard of a node misses none.
    pub fn heard(&mut self, node: NodeId, number: u64) -> u64 {
        let now = Instant::now();
        if let Some((last, at)) = self.0.get_mut(&node) {
            *at = now;
            // A message of an earlier connection may be overtaken by one of the next.
            let missing = number.saturating_sub(last.saturating_add(1));
            *last = number.max(*last);
            return missing;
        }
        if self.0.len() >= NODES_MAX
            && let Some(silent) = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(node, _)| *node)
        {
            self.0.remove(&silent);
        }
        self.0.insert(node, (number, now));
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hole_is_a_loss() {
        let mut peers = Peers::default();
        let (a, b) = (NodeId::new(), NodeId::new());
        let heard: Vec<_> = [7, 8, 11, 10, 12].into_iter().map(|n| peers.heard(a, n)).collect();
        assert_eq!(heard, [0, 0, 2, 0, 0]);
        assert_eq!(peers.heard(b, 1), 0);
        assert_eq!(peers.heard(b, u64::MAX), u64::MAX - 2);
        assert_eq!(peers.heard(b, 3), 0);
    }

    #[test]
    fn invented_nodes_cost_no_memory() {
        let mut peers = Peers::default();
        (0..2 * NODES_MAX).for_each(|_| assert_eq!(peers.heard(NodeId::new(), 5), 0));
        assert_eq!(peers.0.len(), NODES_MAX);
    }
}
