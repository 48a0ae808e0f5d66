//! How many commits usually wait together; no IO.
//!
//! A piece costs the same whether one commit waits for it or thirty. Those whose commits were just
//! confirmed commit again within a moment: a piece that is sent at the first of them makes all
//! others wait for the next one. Databases do the same for a
//! disk.

use std::collections::VecDeque;

/// Commits that wait for pieces on their way, and how many that usually are.
#[derive(Debug, Default)]
pub(crate) struct GroupCommit {
    usual: u64,
    under_way: VecDeque<u64>,
}

impl GroupCommit {
    fn total(&self, waiting: u64) -> u64 {
        self.under_way.iter().sum::<u64>() + waiting
    }

    /// Whether about as many wait as usual, `waiting` of them for a piece that is not sent.
    pub(crate) fn is_here(&self, waiting: u64) -> bool {
        let total = self.total(waiting);
        waiting > 0 && total + total / 8 >= self.usual
    }

    /// A piece with so many commits was sent.
    pub(crate) fn sent(&mut self, commits: u64) {
        self.under_way.push_back(commits);
        // Those who went away are forgotten, slowly.
        let fewer = self.usual.saturating_sub(self.usual.div_ceil(16));
        self.usual = self.total(0).max(fewer);
    }

    /// The first of those that were sent is safe.
    pub(crate) fn arrived(&mut self) {
        self.under_way.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_waits_for_those_who_usually_commit_together() {
        let mut group_commit = GroupCommit::default();
        assert!(group_commit.is_here(1), "nobody else is known of");
        assert!(!group_commit.is_here(0), "nobody waits");
        for commits in [1, 31] {
            group_commit.sent(commits);
        }
        group_commit.arrived();
        group_commit.arrived();
        assert!(!group_commit.is_here(1), "32 waited a moment ago");
        assert!(group_commit.is_here(30));
        // Half of them under way, the others wait.
        group_commit.sent(16);
        assert!(!group_commit.is_here(8) && group_commit.is_here(15));
        group_commit.arrived();
        for _ in 0..80 {
            group_commit.sent(1);
            group_commit.arrived();
        }
        assert!(group_commit.is_here(1), "the others are gone");
    }
}
