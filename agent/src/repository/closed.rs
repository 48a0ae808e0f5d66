//! Folders of a directory repository that this account may not look into: other accounts' sources, or
//! what one wrote as root.

use drctl_model::{BackupSummary, SourceId, shown};
use drctl_store::StoreError;

use super::Repository;

/// What may not be looked into, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closed(Vec<String>);

impl Closed {
    /// Looks for it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn of(repository: &Repository) -> Result<Self, StoreError> {
        let mut found = repository.bucket.closed().await?;
        found.sort();
        Ok(Closed(found))
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a part of a source is among it: nothing is said of that source then.
    #[must_use]
    pub fn holds(&self, source: &SourceId) -> bool {
        let is_its = |place: &String| place.split('/').nth(1) == Some(source.as_str());
        self.0.iter().any(is_its)
    }

    /// Takes out what belongs to such a source.
    pub(crate) fn leave_out(&self, backups: &mut Vec<BackupSummary>) {
        backups.retain(|backup| !self.holds(&backup.source));
    }

    /// Each in a sentence.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let text = |place: &String| {
            let of = place.split('/').nth(1).unwrap_or_default();
            format!(
                "{} may not be looked into by this account: nothing of {} was looked at",
                shown(place, 200),
                shown(of, 100)
            )
        };
        self.0.iter().map(text).collect()
    }

    /// Nothing, or an error about the first.
    ///
    /// # Errors
    /// [`StoreError::Failed`], of a right that is missing.
    pub(crate) fn none(&self) -> Result<(), StoreError> {
        let Some(first) = self.0.first() else { return Ok(()) };
        Err(StoreError::closed(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_leaves_its_source_out_and_no_other() {
        let closed = Closed(vec!["s/priv".to_owned(), "s/shop/b/x/d0".to_owned()]);
        let holds = |name: &str| closed.holds(&name.parse().unwrap());
        assert_eq!([holds("priv"), holds("shop"), holds("other")], [true, true, false]);
        assert_eq!(closed.none().unwrap_err().code(), "store_denied");
        assert!(Closed::default().none().is_ok());
        assert!(closed.texts()[0].starts_with("s/priv may not"));
    }
}
