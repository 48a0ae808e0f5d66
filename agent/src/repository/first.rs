//! The first state of an object that is valid counts, whatever was written over it later.

use anyhow::Result;
use drctl_store::{Bucket, Kept, Odd, StoreError, Stored};
use object_store::path::Path;

use super::faults::{is_bad_manifest, is_newer, is_unsigned};
use crate::host::AgentError;

/// How many of the other states are read, to see whether they say something else.
const OTHERS: usize = 32;

/// Asks for all states of an object and reads them as [`first_of`].
///
/// # Errors
/// As [`first_of`].
pub(crate) async fn first<T, F>(
    bucket: &Bucket,
    key: &Path,
    read: impl Fn(Stored) -> F,
    same: impl Fn(&T, &T) -> bool,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    first_of(bucket, key, bucket.kept(key).await?, read, same).await
}

/// The first state that `read` takes, which was written before all others that count. That others
/// hide it, or count as well and are not the `same`, raises an alarm.
///
/// # Errors
/// The store's; where no state counts, that a newer drctl is needed, or what is wrong with the newest.
pub(crate) async fn first_of<T, F>(
    bucket: &Bucket,
    key: &Path,
    kept: Kept,
    read: impl Fn(Stored) -> F,
    same: impl Fn(&T, &T) -> bool,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut found: Option<T> = None;
    let mut wrong = None;
    let mut left = kept.states.len();
    for stored in kept.states {
        left -= 1;
        if found.is_some() && left >= OTHERS {
            continue;
        }
        match read(stored).await {
            Ok(value) => {
                wrong = None;
                match &found {
                    None => found = Some(value),
                    Some(first) if !same(first, &value) => bucket.alarm(key, Odd::Disputed),
                    Some(_) => {}
                }
            }
            // What a newer drctl wrote, or a trusted key signed, is no less there for what somebody wrote
            // over it.
            Err(error) if counts_not(&error) => {
                wrong =
                    wrong.filter(|wrong| is_newer(wrong) || !is_unsigned(wrong)).or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match (found, wrong) {
        (Some(value), wrong) => {
            if kept.deleted {
                bucket.alarm(key, Odd::Deleted);
            } else if wrong.is_some() {
                bucket.alarm(key, Odd::Hidden);
            }
            Ok(value)
        }
        // What never counted and was deleted is not there: it hides nothing.
        (None, Some(error)) if !kept.deleted || !is_bad_manifest(&error) || is_newer(&error) => {
            Err(error)
        }
        (None, _) => Err(StoreError::Missing { key: key.clone() }.into()),
    }
}

/// Whether an error speaks of one state of an object only.
fn counts_not(error: &anyhow::Error) -> bool {
    let problem = error.downcast_ref::<AgentError>();
    is_bad_manifest(error)
        || matches!(problem, Some(AgentError::Segment { .. } | AgentError::OtherRepository { .. }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drctl_store::FormatError;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn what_never_counted_and_was_deleted_is_not_there() {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "memory:");
        let key = Path::from("a");
        let version = Some("1".to_owned().into_boxed_str());
        let state = Stored { key: key.clone(), version, bytes: None };
        let read = |_| async { Err(FormatError::Untrusted { named: String::new() }.into()) };
        for deleted in [false, true] {
            let kept = Kept { states: vec![state.clone()], deleted };
            let found = first_of(&bucket, &key, kept, read, |_: &u8, _| true).await;
            assert_eq!(crate::repository::faults::is_missing(&found.unwrap_err()), deleted);
        }
        assert_eq!(bucket.alarms(), []);
    }

    /// Reads a made-up history: versions, oldest first; `x` is rubbish.
    async fn told(versions: &str, deleted: bool) -> (Option<char>, Vec<Odd>) {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "memory:");
        let key = Path::from("a");
        let state = |c: char| Stored {
            key: key.clone(),
            version: Some(c.to_string().into_boxed_str()),
            bytes: None,
        };
        let kept = Kept { states: versions.chars().map(state).collect(), deleted };
        let read = |stored: Stored| async move {
            match stored.version.and_then(|text| text.chars().next()) {
                Some('x') | None => Err(FormatError::Untrusted { named: String::new() }.into()),
                Some(c) => Ok(c),
            }
        };
        let found = first_of(&bucket, &key, kept, read, |a, b| a == b).await.ok();
        (found, bucket.alarms().into_iter().map(|alarm| alarm.odd).collect())
    }

    #[tokio::test]
    async fn the_first_valid_version_counts_and_others_are_an_alarm() {
        let cases: &[(&str, bool, Option<char>, &[Odd])] = &[
            ("a", false, Some('a'), &[]),
            ("aa", false, Some('a'), &[]),
            ("xa", false, Some('a'), &[]),
            ("ax", false, Some('a'), &[Odd::Hidden]),
            ("ab", false, Some('a'), &[Odd::Disputed]),
            ("xabx", false, Some('a'), &[Odd::Hidden, Odd::Disputed]),
            ("a", true, Some('a'), &[Odd::Deleted]),
            ("x", false, None, &[]),
            ("", true, None, &[]),
        ];
        for (versions, deleted, found, odd) in cases {
            assert_eq!(told(versions, *deleted).await, (*found, odd.to_vec()), "{versions}");
        }
        let flood = format!("xa{}", "x".repeat(500));
        assert_eq!(told(&flood, false).await, (Some('a'), vec![Odd::Hidden]));
    }
}
