//! What is told of a source: by this look at it, by looks before it, and by whoever came upon it.

use drctl_catalog::Standing;
use drctl_model::{Checked, Finding, FindingCode, shown};
use drctl_policies::recovery::{Gap, Warning, Why};
use jiff::Timestamp;

use super::{Health, SourceStatus};
use crate::engine::wal::gap_at;
use crate::repository::findings::{OF_LOG, behind};

/// What every look looks for, whatever it can reach.
const ALWAYS: [FindingCode; 18] = [
    FindingCode::CatalogUnknown,
    FindingCode::StateUnwritable,
    FindingCode::NoGoodBackup,
    FindingCode::RpoBreached,
    FindingCode::BackupSuspect,
    FindingCode::BackupBroken,
    FindingCode::ClusterChanged,
    FindingCode::Damaged,
    FindingCode::DrillInDoubt,
    FindingCode::DatedInFuture,
    FindingCode::JobFailed,
    FindingCode::JobStopped,
    FindingCode::JobDied,
    FindingCode::JobUnclear,
    FindingCode::Overdue,
    FindingCode::VerifyFailed,
    FindingCode::BackupTooLong,
    FindingCode::LogStreamEnded,
];

/// How the last backup ended, which stands until another one has ended.
const OF_BACKUP_JOBS: [FindingCode; 3] =
    [FindingCode::JobFailed, FindingCode::JobStopped, FindingCode::JobDied];

/// What is looked for where the bucket can be read.
const IN_BUCKET: [FindingCode; 11] = [
    FindingCode::DrillFailed,
    FindingCode::RtoBreached,
    FindingCode::BackupRefused,
    FindingCode::BackupNewer,
    FindingCode::BucketUnreadable,
    FindingCode::MarkerLost,
    FindingCode::MarkerNewer,
    FindingCode::ObjectGone,
    FindingCode::ObjectMeddled,
    FindingCode::RemovalBlocked,
    FindingCode::StatementInDoubt,
];

/// What is looked for where the log can be looked at, or where there is none; gaps by themselves.
const IN_LOG: [FindingCode; 6] = [
    FindingCode::LogMissing,
    FindingCode::LogUnknown,
    FindingCode::LogNewer,
    FindingCode::LogDoubtful,
    FindingCode::LogDisbelieved,
    FindingCode::LogLost,
];

/// How many servers are named whose log was refused.
const REFUSALS_TOLD: usize = 5;

/// How many doubts about the log are told.
const DOUBTS_TOLD: usize = 3;

/// One thing that there is to say of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// How the source is doing for that.
    pub health: Health,
    /// What it is.
    pub code: FindingCode,
    /// What it is about; empty where there can be but one.
    pub subject: String,
    /// What is the matter, and what to do.
    pub text: String,
    /// Since when, as far as that is known.
    pub since: Option<Timestamp>,
    /// All that it is about, where it is one finding of several things.
    pub all: Vec<String>,
}

impl Judged {
    pub(super) fn new(health: Health, code: FindingCode, subject: &str, text: String) -> Self {
        Judged { health, code, subject: subject.to_owned(), text, since: None, all: Vec::new() }
    }

    pub(super) fn attention(code: FindingCode, subject: &str, text: String) -> Self {
        Judged::new(Health::Attention, code, subject, text)
    }

    pub(super) fn since(self, since: Timestamp) -> Self {
        Judged { since: Some(since), ..self }
    }

    /// It stands for all of these.
    pub(super) fn of_all<T: ToString>(self, all: impl IntoIterator<Item = T>) -> Self {
        Judged { all: all.into_iter().map(|one| one.to_string()).collect(), ..self }
    }
}

/// How many there are beside the first.
fn more(all: usize) -> String {
    if all > 1 { format!(", nor do {} more", all - 1) } else { String::new() }
}

impl SourceStatus {
    /// Everything that there is to say of it, each with what to do, the worst first.
    #[must_use]
    pub fn findings(&self) -> Vec<Judged> {
        let mut found = self.seen();
        let sees_gap = found.iter().any(|one| one.code == FindingCode::LogGap);
        for one in &mut found {
            // A gap is told as one, however many places of it were met.
            let same = |met: &&Standing| {
                let (code, subject) = (met.finding.code, &met.finding.subject);
                code == one.code && (code == FindingCode::LogGap || *subject == one.subject)
            };
            let before = self.met.iter().filter(same).map(|met| met.first).min();
            one.since = one.since.into_iter().chain(before).min();
        }
        found.extend(self.met_elsewhere(sees_gap));
        found.sort_by_key(|one| std::cmp::Reverse(one.health));
        found
    }

    /// Backups that are there as they were, whose key is not believed here any more.
    pub(super) fn of_distrust(&self) -> Option<Judged> {
        let all = || self.vanished.iter().filter(|lost| lost.is_distrusted());
        let first = all().next()?;
        let more = match all().count() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        let health = self.newest_good.as_ref().map_or(Health::Breached, |_| Health::Attention);
        let text = format!("{}{more}: {}", shown(&first.key, 200), shown(&first.why, 400));
        let all = all().map(|lost| &lost.key);
        let code = FindingCode::BackupRefused;
        Some(Judged::new(health, code, &first.key, text).since(first.at).of_all(all))
    }

    /// That an index contradicts the signed heads of the log.
    pub(super) fn contradicted(&self, what: &str) -> Judged {
        let text = format!(
            "ALARM: {what}. This host does not use that index any more: find out who may write \
             into the bucket and who has the signing key. On a host without this catalog run \
             `drctl verify {}` before you trust a plan",
            self.source
        );
        let key = what.split_whitespace().find(|word| word.ends_with(".index:"));
        let key = key.unwrap_or_default().trim_end_matches(':');
        Judged::attention(FindingCode::ObjectMeddled, key, text)
    }

    /// What only a stream or a push came upon, in its own words.
    fn met_elsewhere(&self, sees_gap: bool) -> impl Iterator<Item = Judged> {
        let is_ours = move |met: &&Standing| {
            let code = met.finding.code;
            OF_LOG.contains(&code) || code == FindingCode::LogGap && !sees_gap
        };
        self.met.iter().filter(is_ours).map(|met| {
            let text = shown(&met.finding.line(), 600);
            let text = format!("{text} (since {:.0}, last met at {:.0})", met.first, met.last);
            Judged::attention(met.finding.code, &met.finding.subject, text).since(met.first)
        })
    }

    /// What of the log only a newer drctl reads.
    pub(super) fn of_newer(&self) -> Option<Judged> {
        let first = self.newer.first()?;
        let more = match self.newer.len() {
            1 => String::new(),
            many => format!(", and {} more", many - 1),
        };
        let text = format!(
            "NEWER: WAL is in a format that this drctl does not read, and does not count here: \
             {}{more}; install the newer drctl on this host",
            shown(first, 300)
        );
        Some(Judged::attention(FindingCode::LogNewer, "", text).of_all(&self.newer))
    }

    /// Whose log was refused.
    pub(super) fn of_refusals(&self) -> impl Iterator<Item = Judged> {
        self.refusals.iter().take(REFUSALS_TOLD).map(|refused| {
            let text = format!(
                "{} since {:.0}: {}: another server writes the WAL of this source, or this one was \
                 set back, and what it committed since is not in the bucket. Stop the wrong one, \
                 or give it a source of its own; when it is settled `drctl catalog forget {}`",
                shown(&refused.key, 300),
                refused.at,
                shown(&refused.why, 300),
                self.source
            );
            let whose = behind(&refused.key).map_or(String::new(), |(_, whose)| whose);
            Judged::attention(FindingCode::LogRefused, &whose, text).since(refused.at)
        })
    }

    /// The newest backup that does not count here, though it is newer than the newest good one.
    pub(super) fn of_uncounted(&self) -> impl Iterator<Item = Judged> {
        let refused = self.refused.first().map(|(id, why)| {
            let text = format!(
                "{id} is newer than the newest good backup and does not count here{} ({}): look who \
                 wrote it; where a host of yours did, add its key to keys.verifying_keys; run \
                 `drctl backup {}`",
                more(self.refused.len()),
                shown(why, 300),
                self.source
            );
            let all = self.refused.iter().map(|(id, _)| id);
            Judged::attention(FindingCode::BackupRefused, id.as_str(), text).of_all(all)
        });
        let newer = self.newer_backups.first().map(|(id, why)| {
            let text = format!(
                "{id} is newer than the newest good backup and is not read here{}: {}",
                more(self.newer_backups.len()),
                shown(why, 300)
            );
            let all = self.newer_backups.iter().map(|(id, _)| id);
            Judged::attention(FindingCode::BackupNewer, id.as_str(), text).of_all(all)
        });
        refused.into_iter().chain(newer)
    }

    /// What does not count here and is older than the newest good backup: whoever may write into the
    /// bucket can put it there, and nothing depends on it.
    pub(super) fn of_older(&self) -> Option<Judged> {
        let (id, why) = self.refused_older.first()?;
        let text = format!(
            "{id} does not count here{} ({}), and is older than the newest good backup: look who wrote \
             it, `drctl list {}` names all; where a host of yours did, add its key to \
             keys.verifying_keys",
            more(self.refused_older.len()),
            shown(why, 300),
            self.source
        );
        let code = FindingCode::BackupUncounted;
        Some(Judged::new(Health::Good, code, id.as_str(), text))
    }

    /// That somebody said that nothing of it may go, and what is in doubt of what was said.
    pub(super) fn of_statements(&self) -> impl Iterator<Item = Judged> {
        let frozen = self.frozen.iter().map(|(text, since)| {
            let text = format!("nothing of it is removed: {text}");
            Judged::new(Health::Good, FindingCode::SourceFrozen, "", text).since(*since)
        });
        let doubt = self.said_in_doubt.first().map(|first| {
            let more = match self.said_in_doubt.len() {
                1 => String::new(),
                many => format!(" ({} more: `drctl holds {}`)", many - 1, self.source),
            };
            let text = format!("nothing of it is removed: {first}{more}");
            Judged::attention(FindingCode::StatementInDoubt, "", text).of_all(&self.said_in_doubt)
        });
        let drill = self.drill.disbelieved();
        let drill = drill.first().map(|first| {
            let text = format!("nothing of it is removed: {first}");
            Judged::attention(FindingCode::DrillInDoubt, "newest", text)
        });
        frozen.chain(doubt).chain(drill)
    }

    /// What is missing of the log, or that it is not known.
    pub(super) fn holes(&self) -> Option<Judged> {
        let log = match self.log.as_ref()? {
            Ok(log) => &log.recoverable_until,
            Err(why) => {
                let text = format!("the WAL cannot be checked: {why}");
                return Some(Judged::attention(FindingCode::LogUnknown, "", text));
            }
        };
        let take = format!("take a base backup with `drctl backup {}`", self.source);
        // What is there, and is refused or for a newer drctl, is told by itself.
        let told = |gap: &&Gap| !matches!(gap.why, Why::Newer | Why::Refused);
        if let Some(gap) = log.gaps.iter().find(told) {
            let (text, at) = (format!("{gap}: {take}"), gap_at(gap.timeline, gap.from));
            let all = log.gaps.iter().filter(told).map(|gap| gap_at(gap.timeline, gap.from));
            return Some(Judged::attention(FindingCode::LogGap, &at, text).of_all(all));
        }
        let told: Vec<String> =
            log.doubts.iter().take(DOUBTS_TOLD).map(|one| self.doubt(one, &take)).collect();
        let text = match log.doubts.len() {
            0 => return None,
            1 => told.concat(),
            many => format!(
                "{many} things about the WAL are in doubt{}: {}",
                if many > DOUBTS_TOLD {
                    format!(", the first {DOUBTS_TOLD}")
                } else {
                    String::new()
                },
                told.join("; ")
            ),
        };
        Some(Judged::attention(FindingCode::LogDoubtful, "", text).of_all(&log.doubts))
    }

    /// One doubt about the log, and what to do.
    fn doubt(&self, doubt: &Warning, take: &str) -> String {
        match doubt {
            Warning::NoCopyOf(_) | Warning::Unproven(_) => format!("{doubt}: {take}"),
            Warning::Fork { .. } => format!(
                "{doubt}: `restore --to-end` needs --timeline; make sure that only one server \
                 archives, `drctl timeline {}` shows both",
                self.source
            ),
            doubt => format!(
                "{doubt}: `drctl timeline {}` shows what can be recovered; make sure that the \
                 history file is archived, or {take}",
                self.source
            ),
        }
    }

    /// What this look looked for, and found amiss. What was refused is not looked for: it stands until
    /// somebody has seen it.
    pub(super) fn checked(&self) -> Checked {
        let mut codes = ALWAYS.to_vec();
        if self.unreadable.is_none() {
            codes.extend(IN_BUCKET);
        }
        if !matches!(self.log, Some(Err(_))) {
            codes.extend(IN_LOG);
        }
        if self.is_backed_up_now() {
            codes.retain(|code| !OF_BACKUP_JOBS.contains(code));
        }
        if self.kept.unknown {
            codes.retain(|code| *code != FindingCode::RemovalBlocked);
        }
        let mut looked_for: Vec<_> = codes.into_iter().map(|code| (code, None)).collect();
        looked_for.extend(self.closed_gaps());
        let is_kept =
            |one: &Judged| one.health > Health::Good && one.code != FindingCode::LogRefused;
        let finding = |Judged { code, subject, text, .. }: Judged| Finding {
            code,
            source: self.source.clone(),
            subject,
            text,
            hint: None,
        };
        let found = self.seen().into_iter().filter(is_kept).map(finding).collect();
        Checked { looked_for, found }
    }

    /// The gaps that stand and are none any more. Of one that a stream came upon nobody knows where it
    /// lies: a base backup that was begun since makes up for it.
    fn closed_gaps(&self) -> impl Iterator<Item = (FindingCode, Option<String>)> {
        let log = self.log.as_ref().and_then(|log| log.as_ref().ok());
        let whole = log.is_some_and(|log| log.recoverable_until.gaps.is_empty());
        let base = self.newest_good.as_ref().map(|good| good.started);
        let is_closed = move |met: &&Standing| {
            let places = met.finding.subject.starts_with("timeline ");
            met.finding.code == FindingCode::LogGap
                && whole
                && (places || base.is_some_and(|base| base > met.last))
        };
        let gaps = self.met.iter().filter(is_closed);
        gaps.map(|met| (FindingCode::LogGap, Some(met.finding.subject.clone())))
    }

    /// Takes in what became of the look: what is settled is not told, and what is new is known from
    /// now on, where that was kept.
    pub(super) fn noted(&mut self, checked: &Checked, kept: Option<Timestamp>) {
        self.met.retain(|met| !checked.settles(&met.finding));
        let Some(at) = kept else { return };
        for finding in &checked.found {
            if !self.met.iter().any(|met| met.finding.is_same(finding)) {
                self.met.push(Standing { finding: finding.clone(), first: at, last: at });
            }
        }
    }
}
