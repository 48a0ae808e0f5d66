//! All that a thing stands for which is told as one: more or others of it are told anew. Pure.

use std::collections::BTreeSet;

use super::notice::short_digest;

/// How many, and a digest of them all, as text for the record; empty for what stands for itself alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Extent(String);

/// What became of the several that a thing stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// They are the same.
    None,
    /// There are more, or others.
    News,
    /// There are fewer.
    Fewer,
}

impl Extent {
    pub(crate) fn of(all: &[String]) -> Self {
        if all.is_empty() {
            return Extent::default();
        }
        let all: BTreeSet<&String> = all.iter().collect();
        let length = |one: &str| (one.len() as u64).to_be_bytes();
        let each = all.iter().flat_map(|one| [&length(one)[..], one.as_bytes()].concat());
        Extent(format!("{} {}", all.len(), short_digest(&each.collect::<Vec<u8>>())))
    }

    /// As it is on record.
    pub(super) fn recorded(text: &str) -> Self {
        Extent(text.to_owned())
    }

    pub(super) fn record(&self) -> String {
        self.0.clone()
    }

    /// Whether it stands for several.
    pub(super) fn is_several(&self) -> bool {
        !self.0.is_empty()
    }

    fn count(&self) -> Option<u64> {
        self.0.split_once(' ').and_then(|(count, _)| count.parse().ok())
    }

    /// What is other than before, and how that is said.
    pub(super) fn since(&self, before: &Extent) -> (Change, String) {
        let (Some(now), Some(then)) = (self.count(), before.count()) else {
            return (Change::None, String::new());
        };
        match now.cmp(&then) {
            _ if self == before => (Change::None, String::new()),
            std::cmp::Ordering::Greater => (Change::News, format!("More: {then} -> {now}.\n")),
            std::cmp::Ordering::Equal => (Change::News, format!("Others: {then} -> {now}.\n")),
            std::cmp::Ordering::Less => (Change::Fewer, format!("Fewer: {then} -> {now}.\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_told_from_every_other_and_in_no_order() {
        let of =
            |all: &[&str]| Extent::of(&all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        let two = of(&["a", "b"]);
        let change = |now: &[&str]| of(now).since(&Extent::recorded(&two.record())).0;
        assert_eq!(change(&["b", "a"]), Change::None);
        assert_eq!(change(&["a", "c"]), Change::News);
        assert_eq!(change(&["a", "b", "c"]), Change::News);
        assert_eq!(change(&["b"]), Change::Fewer);
        assert_ne!(of(&["ab"]), of(&["a", "b"]));
        assert_eq!(two.since(&Extent::default()).0, Change::None, "nobody knows what it was");
        assert!(two.is_several() && !of(&[]).is_several());
    }
}
