use std::str::FromStr;

use thiserror::Error;

use crate::{Level, SourceId};

/// The codes: what each means, its stable name, and how bad it is.
macro_rules! codes {
    ($($(#[$means:meta])+ $code:ident = $name:literal, $level:ident;)+) => {
        /// What is amiss with a source: a closed list of stable names, for people, scripts and metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingCode {
            $($(#[$means])+ $code,)+
        }

        impl FindingCode {
            /// All there are.
            pub const ALL: &'static [FindingCode] = &[$(Self::$code),+];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $name),+ }
            }

            /// How bad it is.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$code => Level::$level),+ }
            }
        }
    };
}

codes! {
    /// There is no good backup, or none whose age is known.
    NoGoodBackup = "no_good_backup", Bad;
    /// More would be lost now than the objective allows.
    RpoBreached = "rpo_breached", Bad;
    /// The newest backup is suspect: it is stored, and something speaks against it.
    BackupSuspect = "backup_suspect", Warning;
    /// The newest backup is based on one that is missing, or is another one.
    BackupBroken = "backup_broken", Bad;
    /// A backup that is newer than the newest good one does not count here: its manifest is damaged,
    /// or nobody whom this host trusts has signed it.
    BackupRefused = "backup_refused", Bad;
    /// The same of one that only a newer program reads.
    BackupNewer = "backup_newer", Warning;
    /// Manifests that are older than the newest good backup do not count here.
    BackupUncounted = "backup_uncounted", Warning;
    /// The newest backups are of different clusters.
    ClusterChanged = "cluster_changed", Warning;
    /// A look found a backup, the log, or what another tool keeps, not to be what was stored.
    Damaged = "damaged", Bad;
    /// The evidence of a drill is not believed.
    DrillInDoubt = "drill_in_doubt", Warning;
    /// A backup or the log is dated in the future: a clock was wrong.
    DatedInFuture = "dated_in_future", Warning;
    /// The last backup failed.
    JobFailed = "job_failed", Bad;
    /// The last backup was stopped.
    JobStopped = "job_stopped", Warning;
    /// The process of the last backup died.
    JobDied = "job_died", Bad;
    /// The last backup runs, or its process died: that cannot be seen.
    JobUnclear = "job_unclear", Warning;
    /// A backup runs.
    JobRuns = "job_runs", Good;
    /// What this host remembers is not known: its catalog can be neither read nor made anew.
    CatalogUnknown = "catalog_unknown", Warning;
    /// What is done on this host cannot be kept on record: nothing can be written into its state directory.
    StateUnwritable = "state_unwritable", Bad;
    /// A run of the schedule was due, and nobody has begun one.
    Overdue = "overdue", Bad;
    /// Somebody has said that nothing of it may be removed: a freeze, or a legal hold of the source.
    SourceFrozen = "source_frozen", Good;
    /// Nothing of it can be removed, though that is scheduled, and nothing else that is told says why.
    RemovalBlocked = "removal_blocked", Warning;
    /// A statement (a pin, a legal hold, a freeze) is missing or not believed: nothing is removed.
    StatementInDoubt = "statement_in_doubt", Warning;
    /// The last look at backups and log failed, or found something wrong; or its process died.
    VerifyFailed = "verify_failed", Warning;
    /// The last drill failed, or its process died.
    DrillFailed = "drill_failed", Warning;
    /// The newest drill that proved the data took longer to restore them than is promised now.
    RtoBreached = "rto_breached", Warning;
    /// The newest good backup took longer than is promised.
    BackupTooLong = "backup_too_long", Warning;
    /// No log is streamed any more, and none has come by another way since.
    LogStreamEnded = "log_stream_ended", Warning;
    /// An object that was there is gone from the bucket.
    ObjectGone = "object_gone", Bad;
    /// Somebody deleted, overwrote or replaced an object of the bucket.
    ObjectMeddled = "object_meddled", Bad;
    /// The bucket cannot be read.
    BucketUnreadable = "bucket_unreadable", Bad;
    /// The marker of the repository is gone or damaged.
    MarkerLost = "marker_lost", Bad;
    /// The marker of the repository is one of a newer format: nothing is written.
    MarkerNewer = "marker_newer", Bad;
    /// Log is missing, and no recovery leads across the gap.
    LogGap = "log_gap", Bad;
    /// Log that another tool archives is lost, and no backup covers that yet.
    LogLost = "log_lost", Bad;
    /// Log is configured, and none of it is in the bucket.
    LogMissing = "log_missing", Bad;
    /// What lies in the log leads nowhere, or to two places: a history is missing or disputed.
    LogDoubtful = "log_doubtful", Warning;
    /// An object among the log is not believed.
    LogDisbelieved = "log_disbelieved", Warning;
    /// Log, or a note of it, is in a format that only a newer program reads.
    LogNewer = "log_newer", Warning;
    /// The log cannot be looked at.
    LogUnknown = "log_unknown", Warning;
    /// Log of a server was refused, as another server or another history wrote what is stored.
    LogRefused = "log_refused", Bad;
    /// Log that is streamed does not reach the bucket.
    LogStandsStill = "log_stands_still", Warning;
    /// Commits of the server wait for the bucket, or may.
    CommitsWait = "commits_wait", Bad;
    /// The server cannot hand its log over: it piles up.
    ArchivingFails = "archiving_fails", Bad;
    /// Much log waits on the server to be archived.
    LogWaits = "log_waits", Warning;
    /// The server does not keep log any more that a slot asks for, or is about to remove it.
    SlotLost = "slot_lost", Bad;
    /// A slot keeps much log on the server.
    SlotFills = "slot_fills", Warning;
}

/// A name that is none of a [`FindingCode`]'s: a newer program may know it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no code of a finding")]
pub struct UnknownFinding(String);

impl FromStr for FindingCode {
    type Err = UnknownFinding;

    fn from_str(text: &str) -> Result<Self, UnknownFinding> {
        let known = Self::ALL.iter().find(|code| code.as_str() == text);
        known.copied().ok_or_else(|| UnknownFinding(text.to_owned()))
    }
}

/// That something is amiss with a source, as a check found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub code: FindingCode,
    /// Whose.
    pub source: SourceId,
    /// Which object, backup, slot or place it is about, so that two of one code are told apart;
    /// empty where there can be but one.
    pub subject: String,
    /// What was seen, for people.
    pub text: String,
    /// What to do, where the text does not say it.
    pub hint: Option<String>,
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn level(&self) -> Level {
        self.code.level()
    }

    /// All of it in a line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}: {hint}", self.text),
            None => self.text.clone(),
        }
    }

    /// Whether both are about the same, whatever they say of it.
    #[must_use]
    pub fn is_same(&self, other: &Finding) -> bool {
        (self.code, &self.source, &self.subject) == (other.code, &other.source, &other.subject)
    }
}

/// What a check of one source looked for, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// The codes that it looked for, each of one subject or of all: what it does not find of these
    /// is settled.
    pub looked_for: Vec<(FindingCode, Option<String>)>,
    /// What it found.
    pub found: Vec<Finding>,
}

impl Checked {
    /// Something was met by the way: nothing is known of anything else.
    #[must_use]
    pub fn met(finding: Finding) -> Self {
        Checked { looked_for: Vec::new(), found: vec![finding] }
    }

    /// All subjects of these codes were looked at.
    #[must_use]
    pub fn all(codes: &[FindingCode], found: Vec<Finding>) -> Self {
        Checked { looked_for: codes.iter().map(|code| (*code, None)).collect(), found }
    }

    /// Whether a finding of before is not there any more.
    #[must_use]
    pub fn settles(&self, before: &Finding) -> bool {
        let looked = |(code, subject): &(FindingCode, Option<String>)| {
            *code == before.code && subject.as_ref().is_none_or(|one| *one == before.subject)
        };
        self.looked_for.iter().any(looked) && !self.found.iter().any(|found| found.is_same(before))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_name_that_leads_back() {
        let names: BTreeSet<&str> = FindingCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), FindingCode::ALL.len());
        for code in FindingCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert!("sunspots".parse::<FindingCode>().is_err());
    }

    #[test]
    fn a_check_settles_what_it_looked_for_and_did_not_find() {
        let of = |code, subject: &str| Finding {
            code,
            source: "shop".parse().unwrap(),
            subject: subject.to_owned(),
            text: "numbers change".to_owned(),
            hint: None,
        };
        let (lost, fills) = (FindingCode::SlotLost, FindingCode::SlotFills);
        let again = Finding { text: "other numbers".to_owned(), ..of(lost, "one") };
        let one = Checked { looked_for: vec![(lost, Some("one".to_owned()))], found: Vec::new() };
        let cases = [
            ("met by the way", Checked::met(of(lost, "two")), [false, false, false]),
            ("all, and none found", Checked::all(&[lost], vec![]), [true, true, false]),
            (
                "all, and one is still there",
                Checked::all(&[lost], vec![again]),
                [false, true, false],
            ),
            ("one alone", one, [true, false, false]),
            ("both codes", Checked::all(&[lost, fills], vec![]), [true, true, true]),
        ];
        for (name, checked, expected) in cases {
            let before = [of(lost, "one"), of(lost, "two"), of(fills, "one")];
            assert_eq!(before.map(|before| checked.settles(&before)), expected, "{name}");
        }
    }
}
