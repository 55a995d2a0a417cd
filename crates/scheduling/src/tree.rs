//! A tournament tree: the greatest of many keys, updated one at a time in logarithmic time.

/// Keys by position; zero stands for "not in the race".
#[derive(Clone, Debug)]
pub(crate) struct MaxTree {
    /// A complete binary tree: the root at 1, the leaves from `leaves` on.
    nodes: Vec<u64>,
    leaves: usize,
}

impl MaxTree {
    /// A tree over these keys.
    pub(crate) fn build(keys: &[u64]) -> Self {
        let leaves = keys.len().next_power_of_two().max(1);
        let mut nodes = vec![0; 2 * leaves];
        nodes[leaves..leaves + keys.len()].copy_from_slice(keys);
        for index in (1..leaves).rev() {
            nodes[index] = nodes[2 * index].max(nodes[2 * index + 1]);
        }
        Self { nodes, leaves }
    }

    /// The number of keys there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.leaves
    }

    /// The key at a position.
    pub(crate) fn get(&self, position: usize) -> u64 {
        self.nodes[self.leaves + position]
    }

    /// Replaces the key at a position.
    pub(crate) fn set(&mut self, position: usize, key: u64) {
        let mut index = self.leaves + position;
        self.nodes[index] = key;
        while index > 1 {
            index /= 2;
            let greatest = self.nodes[2 * index].max(self.nodes[2 * index + 1]);
            if self.nodes[index] == greatest {
                break;
            }
            self.nodes[index] = greatest;
        }
    }

    /// The position of the greatest key (the first of equals), or `None` when all are zero.
    pub(crate) fn best(&self) -> Option<usize> {
        let greatest = self.nodes[1];
        if greatest == 0 {
            return None;
        }
        let mut index = 1;
        while index < self.leaves {
            index = if self.nodes[2 * index] == greatest { 2 * index } else { 2 * index + 1 };
        }
        Some(index - self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_key_is_always_at_the_root() {
        let mut keys = vec![3, 0, 7, 7, 1];
        let mut tree = MaxTree::build(&keys);
        assert_eq!(tree.best(), Some(2));
        let mut state = 1u64;
        for _ in 0..1000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let position = (state >> 33) as usize % keys.len();
            keys[position] = (state >> 40) % 5;
            tree.set(position, keys[position]);
            let greatest = keys.iter().copied().max().unwrap();
            let expected = if greatest == 0 { None } else { keys.iter().position(|key| *key == greatest) };
            assert_eq!(tree.best(), expected);
            assert_eq!(tree.get(position), keys[position]);
        }
    }
}
