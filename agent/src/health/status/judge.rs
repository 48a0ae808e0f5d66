//! How a source is doing, judged by what is known of it, and what to do.

use drctl_catalog::{Lost, Standing};
use drctl_model::{BackupId, BackupSummary, Finding, FindingCode, Job, SourceId, shown};
use drctl_policies::LogWay;
use drctl_policies::recovery::RecoverableUntil;
use drctl_store::{Alarm, layout};
use jiff::{SignedDuration, Timestamp};

use super::findings::Judged;
use super::health::Health;
use super::stock::Stock;
use crate::engine::pg::Gone;
use crate::engine::pg::another_cluster::Change;
use crate::jobs::LastJob;
use crate::prune::Reasons;
use crate::repository::drills::NewestDrill;
use crate::repository::findings::suspect;
use crate::repository::statements::lost_words;
use crate::repository::{CLOCKS_APART, Forgotten};

/// Where one source stands.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    /// The source.
    pub source: SourceId,
    /// Its newest backup that nothing speaks against.
    pub newest_good: Option<BackupSummary>,
    /// The one that would be, and is gone from the bucket.
    pub lost_good: Option<BackupId>,
    /// Its newest backup, when that is suspect and nobody accepted it.
    pub suspect: Option<BackupSummary>,
    /// What looks found wrong, and no later one has cleared: of the newest backup, of the log, of
    /// what pgBackRest keeps; and of older backups, after those.
    pub bad: Vec<Bad>,
    /// Objects that somebody meddled with, as far as this look came by them.
    pub alarms: Vec<Alarm>,
    /// Why the bucket cannot be read.
    pub unreadable: Option<String>,
    /// Whether the repository's marker is gone or damaged.
    pub marker_lost: bool,
    /// Why a newer drctl is needed, where the repository's marker is one of a newer format.
    pub marker_newer: Option<String>,
    /// Why its newest backup cannot be restored, when the chain that it is based on does not hold.
    pub broken: Option<String>,
    /// That its newest base backups are of different clusters.
    pub(crate) changed: Option<Change>,
    /// How old the newest good one is: what would be lost now. Unknown where all are dated in the
    /// future.
    pub age: Option<SignedDuration>,
    /// A good one that is dated in the future, and does not count: a clock was wrong.
    pub future: Option<BackupId>,
    /// What may be lost at the most, where an objective says so.
    pub rpo: Option<SignedDuration>,
    /// How long a restore may take, where one says so.
    pub rto: Option<SignedDuration>,
    /// How long a backup may take, where one says so.
    pub max_duration: Option<SignedDuration>,
    /// The last backup that this host has tried.
    pub last_job: Option<Job>,
    /// The last of its other jobs on this host, one of each kind.
    pub jobs: Vec<LastJob>,
    /// Of a job that has not ended: whether a process works on the source, as far as can be seen.
    pub running: Option<bool>,
    /// When a run was due that nobody has begun.
    pub overdue: Option<Timestamp>,
    /// When the schedule asks for the next one.
    pub next: Option<Timestamp>,
    /// Backups that are newer than the newest good one and do not count here, with the reason.
    pub refused: Vec<(BackupId, String)>,
    /// The same of older ones.
    pub refused_older: Vec<(BackupId, String)>,
    /// Newer ones that only a newer drctl reads, with what to install.
    pub newer_backups: Vec<(BackupId, String)>,
    /// What lies among its log and is not believed, with the reason.
    pub disbelieved: Vec<String>,
    /// What lies among its log and only a newer drctl reads, with what to install.
    pub newer: Vec<String>,
    /// Where its log stands, or why that is not known; nothing where there is none.
    pub log: Option<Result<LogStatus, String>>,
    /// How its log should have come, where none is in the bucket.
    pub no_log: Option<LogWay>,
    /// What the catalog knew and the bucket does not hold any more.
    pub vanished: Vec<Lost>,
    /// Log of servers that was refused for what others wrote, until somebody has seen it.
    pub refusals: Vec<Lost>,
    /// What log is lost that no backup covers yet, of one that pgBackRest keeps.
    pub lost: Option<String>,
    /// Databases that its backups had, and have no more.
    pub gone: Vec<Gone>,
    /// Why what this host remembered is not known, where it is not.
    pub forgotten: Option<Forgotten>,
    /// Why nothing can be written into the state directory; nothing where that can be, or is not known.
    pub unkept: Option<String>,
    /// What somebody said by which nothing of it may go, and since when.
    pub frozen: Vec<(String, Timestamp)>,
    /// Why nothing of it may go now, as the plan of a removal says.
    pub kept: Reasons,
    /// Whether what no policy keeps is removed on a schedule.
    pub prunes: bool,
    /// What is in doubt of what was said of it, each with what to do.
    pub said_in_doubt: Vec<String>,
    /// What the newest drill says, on whatever host it was.
    pub(crate) drill: NewestDrill,
    /// What stands of what was found amiss with it before, by whatever came upon it.
    pub met: Vec<Standing>,
    /// What of it is there, and counts.
    pub stock: Stock,
}

/// What kind of thing a look found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amiss {
    /// A backup or its log.
    Data,
    /// An index that contradicts the log.
    Index,
    /// Nothing but what a drill left.
    Drill,
}

/// What a look found wrong.
#[derive(Debug, Clone)]
pub struct Bad {
    /// Of what kind that is.
    pub amiss: Amiss,
    /// With what: a backup, `log`, or `stanza`.
    pub subject: String,
    /// In words.
    pub text: String,
    /// When it was looked at.
    pub at: Timestamp,
}

/// Where the log of a source stands.
#[derive(Debug, Clone)]
pub struct LogStatus {
    /// How far it leads.
    pub recoverable_until: RecoverableUntil,
    /// The age of the last moment that can be recovered: what would be lost now.
    pub age: SignedDuration,
}

impl SourceStatus {
    /// That this host does not know what it remembered.
    fn of_memory(&self) -> Option<Judged> {
        let what = "LOST backups, those found BAD, failed jobs and refused WAL";
        let text = match self.forgotten.as_ref()? {
            Forgotten::Unread(path) => format!(
                "what this host remembered is not known: {what} cannot be told; see that {} can be \
                 read and written, by a drctl that is new enough, then run `drctl catalog rebuild`",
                path.display()
            ),
            Forgotten::MadeAnew => format!(
                "the catalog was damaged, empty or deleted, and was made anew: {what} of before cannot be \
                 told; look with `drctl verify`, then run `drctl catalog rebuild`, which \
                 acknowledges it"
            ),
        };
        Some(Judged::attention(FindingCode::CatalogUnknown, "", text))
    }

    /// That nothing of what is done here can be kept.
    fn of_state(&self) -> Option<Judged> {
        let why = self.unkept.as_ref()?;
        let text = format!(
            "{why}. Backups go on, but neither they nor what is found are on record here, and nothing is \
             removed"
        );
        Some(Judged::attention(FindingCode::StateUnwritable, "", text))
    }

    /// What this look at it found, in no order.
    pub(super) fn seen(&self) -> Vec<Judged> {
        let mut found = Vec::new();
        found.extend(self.of_backups());
        found.extend(self.of_losses());
        found.extend(self.of_distrust());
        found.extend(self.of_refusals());
        found.extend(self.of_uncounted());
        found.extend(self.of_older());
        found.extend(self.of_clocks());
        found.extend(self.of_no_log());
        found.extend(self.doubts());
        found.extend(self.meddled());
        found.extend(self.of_jobs());
        found.extend(self.of_other_jobs());
        found.extend(self.of_promises());
        found.extend(self.of_memory());
        found.extend(self.of_state());
        found.extend(self.of_statements());
        found.extend(self.unreadable.as_ref().map(|why| {
            let text = format!(
                "the bucket cannot be read ({why}): no backup reaches it and none can be restored; \
                 see that it is there, `drctl doctor` tries it"
            );
            Judged::attention(FindingCode::BucketUnreadable, "", text)
        }));
        found.extend(self.marker_lost.then(|| {
            let text = "the repository's marker is gone or damaged: nothing is written until it is \
                        there again; find out who may write into the bucket, and run `drctl init \
                        --restore-marker`";
            Judged::attention(FindingCode::MarkerLost, "", text.to_owned())
        }));
        found.extend(self.marker_newer.as_ref().map(|why| {
            let text = format!("{why} here: until then nothing is written, and no backup is made");
            Judged::attention(FindingCode::MarkerNewer, "", text)
        }));
        found.extend(self.of_schedule());
        let blocked = self.of_blocked(&found);
        found.extend(blocked);
        found
    }

    /// Which objects somebody meddled with.
    fn meddled(&self) -> Option<Judged> {
        let first = self.alarms.first()?;
        let more = match self.alarms.len() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        let text = format!(
            "ALARM: {}{more}: find out who may write into the bucket and who has the signing key; \
             `drctl verify {}` names all",
            shown(&first.text(), 400),
            self.source
        );
        let all = self.alarms.iter().map(Alarm::text);
        Some(Judged::attention(FindingCode::ObjectMeddled, &first.key, text).of_all(all))
    }

    /// What is gone that was there.
    fn of_losses(&self) -> Option<Judged> {
        let newest = self.newest_good.as_ref();
        let newest = self.lost_good.as_ref().or(newest.map(|good| &good.backup));
        let newest = newest.map(|good| layout::manifest(&self.source, good));
        let is_newest = |lost: &&Lost| newest.as_ref().is_some_and(|key| key.as_ref() == lost.key);
        let gone = || self.vanished.iter().filter(|lost| !lost.is_distrusted());
        let worst = gone().find(is_newest);
        let lost = worst.or_else(|| gone().next())?;
        let are_all = gone().all(|lost| layout::statement_at(&lost.key.as_str().into()).is_some());
        if let (true, Some(text)) = (are_all, lost_words(lost)) {
            let (code, all) = (FindingCode::ObjectGone, gone().map(|lost| &lost.key));
            return Some(Judged::attention(code, &lost.key, text).since(lost.at).of_all(all));
        }
        let text = format!(
            "{} missing or incomplete ({}: {}): find out who {}; run `drctl backup {}`, and when the \
             loss is explained `drctl catalog forget {}`",
            match gone().count() {
                1 => "something that was there is".to_owned(),
                many => format!("{many} things that were there are"),
            },
            shown(&lost.key, 200),
            shown(&lost.why, 300),
            match lost.key.starts_with(&format!("{}/", layout::sources())) {
                true => "may write into the bucket, `drctl catalog check` shows more",
                false => "removed it",
            },
            self.source,
            self.source
        );
        let health = if worst.is_some() { Health::Breached } else { Health::Attention };
        let all = gone().map(|lost| &lost.key);
        Some(
            Judged::new(health, FindingCode::ObjectGone, &lost.key, text)
                .since(lost.at)
                .of_all(all),
        )
    }

    /// Whether there is a good backup that is young enough.
    fn of_backups(&self) -> Option<Judged> {
        let Some(age) = self.age else {
            let text = match &self.future {
                None => format!("no good backup: run `drctl backup {}`", self.source),
                Some(future) => format!(
                    "no good backup whose age is known: {future} is dated in the future: set the \
                     clock right, and run `drctl backup {}`",
                    self.source
                ),
            };
            return Some(Judged::new(Health::Breached, FindingCode::NoGoodBackup, "", text));
        };
        if let Some(lost) = &self.lost {
            let text = format!(
                "WAL is lost: {lost}; no time after it can be reached: run `drctl backup {} \
                 --full`",
                self.source
            );
            // The objective does not hold for what was committed since.
            let health = self.rpo.map_or(Health::Attention, |_| Health::Breached);
            return Some(Judged::new(health, FindingCode::LogLost, "", text));
        }
        let breach = self.breach(age)?;
        Some(Judged::new(Health::Breached, FindingCode::RpoBreached, "", breach))
    }

    /// What is dated in the future: how old it is nobody knows.
    fn of_clocks(&self) -> Option<Judged> {
        let backup = self.future.as_ref().map(|future| {
            format!(
                "{future} is dated in the future, and does not count for the RPO: set the clock \
                 right; `drctl list` shows what was taken since"
            )
        });
        let log = self.log.as_ref().and_then(|log| log.as_ref().ok());
        let log = log.filter(|log| log.age < -CLOCKS_APART).map(|log| {
            format!(
                "the last commit in the bucket is dated in the future ({:.0}): set the server's \
                 clock right; until then the RPO is judged by the newest base backup",
                log.recoverable_until.shows
            )
        });
        let told = backup.filter(|_| self.age.is_some()).or(log)?;
        Some(Judged::attention(FindingCode::DatedInFuture, "", told))
    }

    /// What speaks against the newest backup and the log.
    fn doubts(&self) -> impl Iterator<Item = Judged> {
        let bad = self.bad.iter().map(|Bad { amiss, subject, text: what, at }| {
            if *amiss == Amiss::Index {
                return self.contradicted(what).since(*at);
            }
            // What a drill left says nothing of the log or of a backup.
            if *amiss == Amiss::Drill {
                let text = format!(
                    "{what}: only the evidence of a drill is in doubt, neither WAL nor a backup. \
                     Find out who wrote it, remove it with the bucket's own client, and run `drctl \
                     verify {}` again",
                    self.source
                );
                return Judged::attention(FindingCode::DrillInDoubt, subject, text).since(*at);
            }
            let text = format!(
                "{what}; take a new backup with `drctl backup {0}`. If the damaged objects can be put \
                 back (docs/stores.md), put them back and run `drctl verify {0} --data`",
                self.source
            );
            Judged::attention(FindingCode::Damaged, subject, text).since(*at)
        });
        let suspect = self.suspect.as_ref().and_then(|backup| {
            let Finding { code, subject, text, .. } = suspect(backup)?;
            Some(Judged::attention(code, &subject, text).since(backup.finished))
        });
        let broken = self.broken.as_ref().map(|why| {
            let text = format!(
                "the newest backup cannot be restored ({why}): run `drctl backup {} --full`",
                self.source
            );
            Judged::attention(FindingCode::BackupBroken, "", text)
        });
        let disbelieved = self.disbelieved.first().map(|first| {
            let more = match self.disbelieved.len() {
                1 => String::new(),
                many => format!(", and {} more", many - 1),
            };
            let text = format!(
                "an object among the WAL is not trusted ({}{more}): find out who may write into \
                 the bucket; `drctl verify {source} --data` names all, and `drctl timeline \
                 {source}` shows what can be recovered",
                shown(first, 300),
                source = self.source
            );
            Judged::attention(FindingCode::LogDisbelieved, "", text).of_all(&self.disbelieved)
        });
        let changed = self.changed.as_ref().map(|Change { finding, since, .. }| {
            let text = finding.line();
            Judged::attention(finding.code, &finding.subject, text).since(*since)
        });
        let doubts = bad.chain(changed).chain(suspect).chain(broken).chain(self.holes());
        doubts.chain(disbelieved).chain(self.of_newer())
    }

    /// Whether its newest good backup is a base backup, full or incremental, which has log.
    pub(super) fn is_cluster(&self) -> bool {
        self.newest_good.as_ref().is_some_and(|good| good.kind.coordinates().is_some())
    }

    /// Whether more would be lost now than the objective says. Where there is log, that is what
    /// came after its last commit.
    fn breach(&self, age: SignedDuration) -> Option<String> {
        let rpo = self.rpo?;
        let log = self.log.as_ref().and_then(|log| log.as_ref().ok());
        match log.filter(|log| log.age >= -CLOCKS_APART) {
            Some(log) if log.age > rpo => Some(format!(
                "the last commit in the bucket is older than the RPO of {rpo:#}: check that the \
                 WAL arrives (`drctl doctor`); on an idle server use `wal stream --heartbeat`",
            )),
            None if age > rpo => Some(format!(
                "the newest good backup is older than the RPO of {rpo:#}: run `drctl backup {}`",
                self.source
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use drctl_catalog::Loss;
    use drctl_model::{
        BackupKind, Coordinates, Digest, Dumped, Engine, Finding, Increment, JobState, Lsn, Parent,
        Timeline, WalSegmentSize,
    };
    use drctl_policies::recovery::{Gap, Warning, Why};

    use super::*;

    pub(crate) fn increment() -> BackupSummary {
        let at = Coordinates {
            system_id: 7,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(1),
            stop: Lsn(2),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let full = "20260301T000000Z-0000000000000001".parse().unwrap();
        let parent = Parent { backup: full, manifest_sha256: Digest([1; 32]) };
        BackupSummary {
            source: "shop".parse().unwrap(),
            backup: "20260302T000000Z-0000000000000002".parse().unwrap(),
            engine: Engine::BaseBackup,
            kind: BackupKind::Incremental(Increment { parent, at }),
            host: "db1".into(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: vec![],
            manifest_sha256: Digest([2; 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        }
    }

    pub(crate) fn status(newest_good: BackupSummary) -> SourceStatus {
        SourceStatus {
            source: newest_good.source.clone(),
            newest_good: Some(newest_good),
            lost_good: None,
            suspect: None,
            broken: None,
            changed: None,
            bad: vec![],
            refused: vec![],
            refused_older: vec![],
            newer_backups: vec![],
            alarms: vec![],
            unreadable: None,
            marker_lost: false,
            marker_newer: None,
            frozen: Vec::new(),
            kept: Reasons::default(),
            prunes: false,
            said_in_doubt: Vec::new(),
            drill: NewestDrill::default(),
            disbelieved: Vec::new(),
            newer: Vec::new(),
            running: None,
            overdue: None,
            age: Some(SignedDuration::from_secs(5)),
            future: None,
            rpo: None,
            rto: None,
            max_duration: None,
            last_job: None,
            jobs: Vec::new(),
            next: None,
            log: None,
            no_log: None,
            vanished: vec![],
            refusals: vec![],
            lost: None,
            gone: Vec::new(),
            forgotten: None,
            unkept: None,
            met: Vec::new(),
            stock: Stock::default(),
        }
    }

    impl SourceStatus {
        /// How it is doing, and why: the worst that there is to say.
        fn judge(&self) -> (Health, String) {
            let worst = self.findings().into_iter().next();
            worst.map_or((Health::Good, String::new()), |worst| (worst.health, worst.text))
        }
    }

    #[test]
    fn what_is_gone_is_never_good() {
        let lost = |key: &str| Lost {
            source: "shop".parse().unwrap(),
            key: key.to_owned(),
            loss: Loss::Gone,
            why: "its manifest is gone".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        };
        let judged = |vanished: Vec<Lost>| SourceStatus { vanished, ..status(increment()) }.judge();
        assert_eq!(judged(vec![]).0, Health::Good);
        let (health, text) = judged(vec![lost("s/shop/l/x/1-2")]);
        assert_eq!(health, Health::Attention);
        assert!(text.contains("s/shop/l/x/1-2") && text.contains("catalog forget shop"), "{text}");
        assert!(text.contains("who may write into the bucket"), "{text}");
        let (_, text) = judged(vec![lost("pgbackrest: main/1/20261126-010203F")]);
        assert!(!text.contains("bucket") && text.contains("who removed it"), "{text}");
        // Of a statement it is told how it is left out, and nothing is told for what is gone beside it.
        let said = "s/shop/k/000003.json";
        let (health, text) = judged(vec![lost(said)]);
        let words = "statement 3 of shop (s/shop/k/000003.json): its manifest is gone. Nothing of shop is removed \
                     meanwhile. Put the object back; when its loss is explained, `drctl unfreeze shop --without 3 \
                     --reason TEXT` (role `prune`), then say again what has to stay";
        assert_eq!((health, text.as_str()), (Health::Attention, words));
        let (_, text) = judged(vec![lost(said), lost("s/shop/l/x/1-2")]);
        assert!(text.contains("2 things") && text.contains("catalog forget shop"), "{text}");
        let newest = increment();
        let key = layout::manifest(&newest.source, &newest.backup).to_string();
        assert_eq!(judged(vec![lost("s/shop/b/a"), lost(&key)]).0, Health::Breached);
    }

    #[test]
    fn what_is_dated_in_the_future_hides_no_breach() {
        let hours = SignedDuration::from_hours;
        let future = Some(increment().backup);
        let of = |age: Option<i64>, log: Option<i64>| {
            let recoverable_until = RecoverableUntil {
                timeline: Timeline::FIRST,
                end: Lsn(9),
                shows: Timestamp::UNIX_EPOCH,
                gaps: vec![],
                doubts: vec![],
            };
            let log = log.map(|age| Ok(LogStatus { recoverable_until, age: hours(age) }));
            let (future, rpo) = (future.clone(), Some(hours(26)));
            let status = status(increment());
            SourceStatus { age: age.map(hours), future, rpo, log, ..status }.findings()
        };
        let cases = [
            ("a young one", Some(1), None, Health::Attention),
            ("an old one", Some(480), None, Health::Breached),
            ("none", None, None, Health::Breached),
            ("young WAL", Some(480), Some(1), Health::Attention),
            ("WAL of the future", Some(480), Some(-480), Health::Breached),
            ("WAL of the future, a young base backup", Some(1), Some(-480), Health::Attention),
        ];
        for (name, age, log, health) in cases {
            let found = of(age, log);
            assert_eq!(found[0].health, health, "{name}: {found:?}");
            assert!(found.iter().any(|one| one.text.contains("in the future")), "{name}");
        }
    }

    #[test]
    fn what_a_newer_drctl_wrote_is_told_as_that_and_not_as_a_strangers() {
        let newer = vec!["WAL of timeline 1: read x: install drctl 9.0.0 or newer".to_owned()];
        let found = SourceStatus { newer, ..status(increment()) }.findings();
        let said = &found[0];
        assert_eq!((said.health, said.code.as_str()), (Health::Attention, "log_newer"));
        assert!(said.text.starts_with("NEWER: ") && said.text.contains("drctl 9.0.0"), "{said:?}");
        assert!(found.iter().all(|one| !one.text.contains("who may write")), "{found:?}");
    }

    #[test]
    fn the_log_behind_an_incremental_copy_is_looked_at_too() {
        assert!(status(increment()).is_cluster());
        assert!(
            !status(BackupSummary { kind: BackupKind::Logical(Dumped::default()), ..increment() })
                .is_cluster()
        );
    }

    #[test]
    fn a_history_that_is_missing_needs_attention() {
        let judged = |gaps: &[Gap], doubts: &[Warning]| {
            let recoverable_until = RecoverableUntil {
                timeline: Timeline::FIRST,
                end: Lsn(9),
                shows: Timestamp::UNIX_EPOCH,
                gaps: gaps.to_vec(),
                doubts: doubts.to_vec(),
            };
            let log = LogStatus { recoverable_until, age: SignedDuration::from_secs(1) };
            SourceStatus { log: Some(Ok(log)), ..status(increment()) }.judge()
        };
        let two = Timeline::new(2).unwrap();
        assert_eq!(judged(&[], &[]).0, Health::Good);
        let (health, text) = judged(&[], &[Warning::NoHistory(two)]);
        assert_eq!(health, Health::Attention);
        assert!(
            text.contains("its history file is missing") && text.contains("drctl timeline shop"),
            "{text}"
        );
        assert_eq!(judged(&[], &[Warning::DisputedHistory(two)]).0, Health::Attention);
        let all: Vec<Warning> = (2..7).filter_map(Timeline::new).map(Warning::NoHistory).collect();
        let (_, text) = judged(&[], &all);
        assert!(text.starts_with("5 things about the WAL are in doubt, the first 3: "), "{text}");
        assert_eq!(text.matches("its history file is missing").count(), 3, "{text}");
        let gap = Gap { timeline: Timeline::FIRST, from: Lsn(9), until: None, why: Why::Missing };
        assert!(judged(&[gap], &[Warning::NoHistory(two)]).1.contains("is missing"), "a gap first");
    }
    fn job(state: JobState) -> Job {
        let at = Timestamp::UNIX_EPOCH;
        Job {
            id: drctl_model::JobId(1),
            kind: drctl_model::JobKind::Backup,
            source: "shop".parse().unwrap(),
            backup: "20260301T000000Z-0000000000000001".parse().ok(),
            state,
            started: at,
            changed: at,
            code: Some("store_failed".to_owned()),
            message: Some("the bucket is away".to_owned()),
            run: None,
        }
    }

    #[test]
    fn what_is_overdue_is_told_with_why_the_last_attempt_failed() {
        let overdue = Some(Timestamp::UNIX_EPOCH);
        let of = |state| {
            let last_job = Some(job(state));
            let found = SourceStatus { overdue, last_job, ..status(increment()) }.findings();
            found.into_iter().find(|one| one.text.contains("was due at")).unwrap().text
        };
        let told = of(JobState::Failed);
        assert!(
            told.contains("since the one of 1970-01-01T00:00:00Z, which failed (the bucket is"),
            "{told}"
        );
        let told = of(JobState::Committed);
        assert!(told.contains("has not begun: check that"), "{told}");
    }

    #[test]
    fn nothing_that_is_amiss_is_good() {
        let at = Timestamp::UNIX_EPOCH;
        let of = |state, running| SourceStatus {
            last_job: Some(job(state)),
            running,
            ..status(increment())
        };
        let bad = |amiss| {
            let (subject, text) = ("log".to_owned(), "the WAL: BAD".to_owned());
            vec![Bad { amiss, subject, text, at: Timestamp::UNIX_EPOCH }]
        };
        let (bad, junk) = (bad(Amiss::Data), bad(Amiss::Drill));
        let key = "s/shop/b/x/manifest.json".to_owned();
        let alarms = vec![Alarm { key, odd: drctl_store::Odd::Hidden }];
        let cases = [
            ("all is well", status(increment()), Health::Good, ""),
            ("it went well", of(JobState::Committed, None), Health::Good, ""),
            ("it runs", of(JobState::Running, Some(true)), Health::Good, "has been running since"),
            ("it died", of(JobState::Running, Some(false)), Health::Attention, "has died"),
            ("nobody knows", of(JobState::Committing, None), Health::Attention, "or has died"),
            ("it failed", of(JobState::Failed, None), Health::Attention, "the bucket is away"),
            ("it was stopped", of(JobState::Cancelled, None), Health::Attention, "was stopped"),
            (
                "no run",
                SourceStatus { overdue: Some(at), ..status(increment()) },
                Health::Attention,
                "was due at 1970-01-01T00:00:00Z",
            ),
            (
                "no bucket",
                SourceStatus { unreadable: Some("no route".into()), ..status(increment()) },
                Health::Attention,
                "cannot be read (no route)",
            ),
            (
                "meddling",
                SourceStatus { alarms, ..status(increment()) },
                Health::Attention,
                "somebody overwrote it",
            ),
            (
                "a drill's evidence",
                SourceStatus { bad: junk, ..status(increment()) },
                Health::Attention,
                "is in doubt, neither WAL nor a backup",
            ),
            ("damage", SourceStatus { bad, ..status(increment()) }, Health::Attention, "BAD"),
        ];
        for (name, status, health, words) in cases {
            let (found, text) = status.judge();
            assert!(found == health && text.contains(words), "{name}: {found:?} {text}");
        }
        // All is told, the worst first.
        let all = SourceStatus {
            age: None,
            unreadable: Some("x".into()),
            overdue: Some(at),
            ..of(JobState::Failed, None)
        };
        let found = all.findings();
        assert_eq!((found.len(), found[0].health), (4, Health::Breached), "{found:?}");
    }

    fn met(code: FindingCode, subject: &str, hour: i64) -> Standing {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour);
        let finding = Finding {
            code,
            source: "shop".parse().unwrap(),
            subject: subject.to_owned(),
            text: "10 B have not arrived".to_owned(),
            hint: Some("look why".to_owned()),
        };
        Standing { finding, first: at, last: at + SignedDuration::from_hours(1) }
    }

    #[test]
    fn what_a_stream_met_is_told_with_its_time() {
        let all = vec![
            met(FindingCode::CommitsWait, "slot one", 1),
            met(FindingCode::BackupSuspect, "gone since", 2),
        ];
        let mut status = SourceStatus { met: all, ..status(increment()) };
        let found = status.findings();
        assert_eq!(found.len(), 1, "what this look would have seen is not there: {found:?}");
        let told = "10 B have not arrived: look why (since 1970-01-01T01:00:00Z, last met at \
                    1970-01-01T02:00:00Z)";
        assert_eq!((found[0].health, found[0].text.as_str()), (Health::Attention, told));
        assert_eq!(found[0].since, Some(status.met[0].first));
        let checked = status.checked();
        status.noted(&checked, None);
        assert_eq!(status.met.len(), 1, "the stream alone settles its own");
        // What is found now is known from now on, where it could be kept.
        status.marker_lost = true;
        let (checked, now) = (status.checked(), Timestamp::MAX);
        assert_eq!(checked.found.len(), 1, "{checked:?}");
        let since = |status: &SourceStatus| {
            let found = status.findings().into_iter();
            found.filter(|one| one.code == FindingCode::MarkerLost).find_map(|one| one.since)
        };
        status.noted(&checked, None);
        assert_eq!(since(&status), None);
        status.noted(&checked, Some(now));
        assert_eq!(since(&status), Some(now));
    }

    #[test]
    fn a_gap_stands_until_it_is_closed_or_a_base_backup_makes_up_for_it() {
        let gap = Gap { timeline: Timeline::FIRST, from: Lsn(9), until: None, why: Why::Missing };
        let of = |gaps: &[Gap], base: i64, met: &[Standing]| {
            let recoverable_until = RecoverableUntil {
                timeline: Timeline::FIRST,
                end: Lsn(9),
                shows: Timestamp::UNIX_EPOCH,
                gaps: gaps.to_vec(),
                doubts: vec![],
            };
            let log = Some(Ok(LogStatus { recoverable_until, age: SignedDuration::ZERO }));
            let started = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(base);
            let base = BackupSummary { started, ..increment() };
            let mut status = SourceStatus { log, met: met.to_vec(), ..status(base) };
            let checked = status.checked();
            status.noted(&checked, None);
            let found = status.findings().into_iter();
            found.map(|one| (one.code, one.since)).collect::<Vec<_>>()
        };
        let place =
            met(FindingCode::LogGap, &crate::engine::wal::gap_at(Timeline::FIRST, Lsn(9)), 5);
        let slot = met(FindingCode::LogGap, "slot one", 4);
        let since = |met: &Standing| vec![(FindingCode::LogGap, Some(met.first))];
        let both = [place.clone(), slot.clone()];
        assert_eq!(of(&[gap], 0, &both), since(&slot), "told once, from its beginning");
        assert_eq!(of(&[], 0, &[place]), [], "it was closed");
        assert_eq!(
            of(&[], 0, std::slice::from_ref(&slot)),
            since(&slot),
            "nobody knows where it is"
        );
        assert_eq!(of(&[], 9, &[slot]), [], "a base backup was begun since");
    }

    #[test]
    fn only_what_is_amiss_is_kept_and_what_was_refused_is_left_alone() {
        let runs = SourceStatus {
            last_job: Some(job(JobState::Running)),
            running: Some(true),
            met: vec![met(FindingCode::LogRefused, "cluster 7", 1)],
            ..status(increment())
        };
        let checked = runs.checked();
        assert_eq!(checked.found, []);
        assert!(!checked.settles(&runs.met[0].finding));
        let failed = met(FindingCode::JobFailed, "", 1);
        assert!(!checked.settles(&failed.finding), "how the one ends that runs is not known");
        let ended =
            SourceStatus { last_job: Some(job(JobState::Committed)), running: None, ..runs };
        assert!(ended.checked().settles(&failed.finding));
        let away = SourceStatus { unreadable: Some("no route".to_owned()), ..ended };
        let checked = away.checked();
        assert_eq!(checked.found.len(), 1);
        assert!(!checked.settles(&met(FindingCode::ObjectGone, "s/x", 1).finding), "not looked at");
    }
}
