use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::text_id;
use crate::{Digest, Header, IdError, ManifestError, RepositoryId, SourceId, is_line};

/// The highest number of a beat.
pub const MAX_BEAT: u64 = 9_999_999_999;

/// Seconds since 1970 before which no beat was written: a clock that was reset hides none.
const OLDEST: u64 = 1_790_000_000;

/// The most jobs of a beat.
const MAX_JOBS: usize = 10_000;

/// The most sources of which a beat tells what is amiss.
const MAX_AMISS: usize = 10_000;

/// The most codes that a beat tells of a source, or of the host.
pub const MAX_CODES: usize = 8;

/// The longest that a beat may say it is until the next one: a week.
const MAX_NEXT: u64 = 7 * 86_400;

/// How much of a host's name is in a key where the name does not fit there.
const SHORTENED: usize = 40;

/// A host, as keys name it: `a-z`, `0-9`, `-` and single `.`, 1 to 100 characters, beginning and ending
/// with a letter or digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostId(String);

impl HostId {
    /// The host of a name, whose digest is `sha256`. A name that is one is taken as it is; of any other as
    /// much as fits, and the beginning of the digest: two hosts never have one folder by that.
    #[must_use]
    pub fn of(name: &str, sha256: &Digest) -> Self {
        if let Ok(fits) = name.parse() {
            return fits;
        }
        let part = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '-',
        };
        let part: String = name.chars().take(SHORTENED).map(part).collect();
        let part = part.trim_matches('-');
        let digest = sha256.to_string();
        let digest = digest.get(..16).unwrap_or(&digest);
        HostId(if part.is_empty() { digest.to_owned() } else { format!("{part}-{digest}") })
    }
}
text_id!(HostId);

impl FromStr for HostId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let fits = (1..=100).contains(&bytes.len())
            && bytes.iter().copied().all(inner)
            && ends(bytes.first())
            && ends(bytes.last())
            && !text.contains("..");
        if fits {
            return Ok(HostId(text.to_owned()));
        }
        let rule =
            "1 to 100 of a-z, 0-9, - and single ., beginning and ending with a letter or digit";
        Err(IdError::new("name of a host in a key", text, rule))
    }
}

/// What is signed every few minutes by the agent of a host: that it lives, and how its jobs stand. Beats
/// are numbered, and the one with the highest number is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The host, by its own name.
    pub host: String,
    /// Which of the host's agents: 16 hexadecimal digits.
    pub agent: String,
    /// Its number: from 1 on.
    pub seq: u64,
    /// When it was written (clock of the host).
    pub written: Timestamp,
    /// The agent's version.
    pub version: String,
    /// When the agent was started (clock of the host).
    pub started: Timestamp,
    /// In how many seconds the next one comes.
    pub next_seconds: u64,
    /// Every job of the agent.
    pub jobs: Vec<BeatJob>,
    /// What the agent's last look found amiss; nothing before the first one.
    #[serde(default)]
    pub findings: Option<BeatFindings>,
}

/// What the last look of an agent that came to its end found amiss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatFindings {
    /// When it was begun (clock of the host).
    pub looked: Timestamp,
    /// Codes of what is amiss with the host.
    pub host: Vec<String>,
    /// The sources with which something is amiss.
    pub sources: Vec<BeatAmiss>,
}

/// What is amiss with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatAmiss {
    /// The source.
    pub source: SourceId,
    /// How many findings say that an objective is breached, or that there is no good backup.
    pub breached: u64,
    /// How many others need attention.
    pub attention: u64,
    /// Their codes, the worst first; not all of them where there are many.
    pub codes: Vec<String>,
}

/// A job, as a beat tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatJob {
    /// The source.
    pub source: SourceId,
    /// What the job does: a word of a [`JobKind`](crate::JobKind), or of a later one.
    pub kind: String,
    /// What it does now.
    pub state: BeatState,
    /// Since when it runs.
    pub since: Option<Timestamp>,
    /// Since when a run is due that has not begun or has failed; of a stream, since when it has failed.
    pub due: Option<Timestamp>,
    /// When the next run begins at the earliest.
    pub next: Option<Timestamp>,
    /// How the last run ended.
    pub last: Option<BeatRun>,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatState {
    /// Nothing is due.
    Idle,
    /// A run is due, and waits.
    Due,
    /// It runs.
    Running,
    /// Somebody has paused it.
    Paused,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatRun {
    /// When.
    pub ended: Timestamp,
    /// How.
    pub outcome: BeatOutcome,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeatOutcome {
    /// It did what it was to do.
    Succeeded,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Stopped,
    /// Its process went away.
    Died,
}

impl Beat {
    /// Whether it lies where it says that it belongs, and its values are possible. `host` is that of the
    /// key, `named` the one that the name in the beat has in keys.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`], [`ManifestError::Inconsistent`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        (host, seq): (&HostId, u64),
        named: &HostId,
    ) -> Result<(), ManifestError> {
        if &self.repository != repository || host != named || self.seq != seq {
            return Err(ManifestError::Misplaced(format!(
                "the beat {} of {named} in repository {}",
                self.seq, self.repository
            )));
        }
        let odd = |what: &str| Err(ManifestError::Inconsistent(what.to_owned()));
        if !is_line(&self.host, 255) || !is_line(&self.version, 40) {
            return odd("its host or version is empty, too long, or has control characters");
        }
        if self.agent.len() != 16 || !self.agent.bytes().all(|b| b.is_ascii_hexdigit()) {
            return odd("its agent is not 16 hexadecimal digits");
        }
        if !(1..=MAX_NEXT).contains(&self.next_seconds) {
            return odd("the next one comes never, or in more than a week");
        }
        let is_kind = |kind: &str| {
            (1..=32).contains(&kind.len())
                && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        if self.jobs.len() > MAX_JOBS || !self.jobs.iter().all(|job| is_kind(&job.kind)) {
            return odd("it has too many jobs, or one of an impossible kind");
        }
        let Some(BeatFindings { host, sources, .. }) = &self.findings else { return Ok(()) };
        let mut lists = sources.iter().map(|one| &one.codes).chain([host]);
        let fit = |codes: &Vec<String>| {
            codes.len() <= MAX_CODES && codes.iter().all(|code| is_kind(code))
        };
        match sources.len() <= MAX_AMISS && lists.all(fit) {
            true => Ok(()),
            false => odd("it has too many findings, or one of an impossible code"),
        }
    }

    /// The sources that it tells anything of.
    pub fn sources(&self) -> impl Iterator<Item = &SourceId> {
        let amiss = self.findings.iter().flat_map(|found| &found.sources);
        self.jobs.iter().map(|job| &job.source).chain(amiss.map(|one| &one.source))
    }

    /// The highest number that a beat can have: agents write less than one in a second. So whoever can sign
    /// one cannot use up the numbers that are left.
    #[must_use]
    pub fn highest_at(now: Timestamp) -> u64 {
        u64::try_from(now.as_second()).unwrap_or(0).clamp(OLDEST, MAX_BEAT)
    }

    /// Whether this beat tells all that the agent of an earlier one has to tell: it is of the same agent,
    /// by the `same_key`, or of one that looks after all sources of the other.
    #[must_use]
    pub fn stands_for(&self, other: &Beat, same_key: bool) -> bool {
        let looks_after = |source: &SourceId| self.jobs.iter().any(|job| job.source == *source);
        let same_agent = same_key && self.agent == other.agent;
        let after_all =
            || !other.jobs.is_empty() && other.jobs.iter().all(|job| looks_after(&job.source));
        self.seq > other.seq && (same_agent || after_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(agent: u8, seq: u64, sources: &[&str]) -> Beat {
        let job = |source: &&str| BeatJob {
            source: source.parse().unwrap(),
            kind: "backup".to_owned(),
            state: BeatState::Idle,
            since: None,
            due: None,
            next: Some(Timestamp::UNIX_EPOCH),
            last: None,
        };
        Beat {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            host: "db1".to_owned(),
            agent: format!("{agent:016x}"),
            seq,
            written: Timestamp::UNIX_EPOCH,
            version: "0.1.0".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            next_seconds: 300,
            jobs: sources.iter().map(job).collect(),
            findings: Some(BeatFindings {
                looked: Timestamp::UNIX_EPOCH,
                host: vec!["alert_path".to_owned()],
                sources: vec![amiss("shop", "damaged")],
            }),
        }
    }

    fn amiss(source: &str, code: &str) -> BeatAmiss {
        let (source, codes) = (source.parse().unwrap(), vec![code.to_owned()]);
        BeatAmiss { source, breached: 1, attention: 0, codes }
    }

    fn found(host: &[&str], sources: Vec<BeatAmiss>) -> Option<BeatFindings> {
        let host = host.iter().map(|code| (*code).to_owned()).collect();
        Some(BeatFindings { looked: Timestamp::UNIX_EPOCH, host, sources })
    }

    #[test]
    fn no_number_is_higher_than_the_seconds_that_have_passed() {
        let at = |second| Beat::highest_at(Timestamp::from_second(second).unwrap());
        assert_eq!((at(0), at(-5), at(1_800_000_000)), (OLDEST, OLDEST, 1_800_000_000));
        assert_eq!(at(Timestamp::MAX.as_second()), MAX_BEAT);
        let named = beat(1, 3, &["blog"]);
        assert_eq!(named.sources().map(SourceId::as_str).collect::<Vec<_>>(), ["blog", "shop"]);
    }

    #[test]
    fn a_name_of_a_host_is_safe_in_a_key_whatever_it_is() {
        let of = |name: &str, byte| HostId::of(name, &Digest([byte; 32])).as_str().to_owned();
        assert_eq!(of("db1.example.org", 1), "db1.example.org");
        assert_eq!(of("DB1", 0xab), "db1-abababababababab");
        assert_eq!(of("../../etc", 0xab), "etc-abababababababab");
        assert_eq!(of("größe\n\u{202e}", 0xab), "gr--e-abababababababab");
        assert_eq!(of("..", 0xab), "abababababababab");
        assert_ne!(of("db_1", 1), of("db-1", 2));
        for name in ["", "a/b", "-a", "a..b", "\u{1b}[2J", &"x".repeat(1000), "%2e%2e"] {
            let made = of(name, 3);
            assert_eq!(made.parse::<HostId>().unwrap().as_str(), made, "{name:?}");
            assert!(name.parse::<HostId>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_beat_is_taken_only_where_it_belongs_and_with_possible_values() {
        let (id, db1) = (RepositoryId::new(7), "db1".parse::<HostId>().unwrap());
        let check = |beat: &Beat| beat.check(&id, (&db1, 3), &db1).is_ok();
        let good = beat(1, 3, &["shop"]);
        assert!(check(&good));
        let db2 = "db2".parse::<HostId>().unwrap();
        assert!(good.check(&id, (&db2, 3), &db1).is_err(), "of another host");
        let others = [
            Beat { seq: 4, ..good.clone() },
            Beat { repository: RepositoryId::new(8), ..good.clone() },
            Beat { host: "a\u{1b}[2J".to_owned(), ..good.clone() },
            Beat { host: String::new(), ..good.clone() },
            Beat { version: "x".repeat(41), ..good.clone() },
            Beat { agent: "x".repeat(16), ..good.clone() },
            Beat { next_seconds: 0, ..good.clone() },
            Beat { next_seconds: u64::MAX, ..good.clone() },
            Beat { findings: found(&["Not a code"], Vec::new()), ..good.clone() },
            Beat { findings: found(&["a"; MAX_CODES + 1], Vec::new()), ..good.clone() },
            Beat { findings: found(&[], vec![amiss("shop", "a\u{1b}[2J")]), ..good.clone() },
            Beat { findings: found(&[], vec![amiss("shop", "a"); MAX_AMISS + 1]), ..good.clone() },
            Beat { jobs: vec![BeatJob { kind: "A b".to_owned(), ..good.jobs[0].clone() }], ..good },
        ];
        for other in others {
            assert!(!check(&other), "{other:?}");
        }
    }

    #[test]
    fn a_beat_stands_for_earlier_ones_of_its_agent_and_of_the_same_sources() {
        let old = beat(1, 3, &["shop", "blog"]);
        assert!(beat(1, 4, &["shop"]).stands_for(&old, true), "a source was taken out");
        assert!(!beat(1, 4, &["shop"]).stands_for(&old, false), "who else signs names that agent");
        assert!(
            beat(2, 4, &["blog", "shop", "wiki"]).stands_for(&old, false),
            "its state was moved"
        );
        assert!(!beat(2, 4, &["shop"]).stands_for(&old, true), "another agent of that name");
        assert!(!beat(1, 3, &["shop", "blog"]).stands_for(&old, true));
        assert!(!beat(2, 4, &["shop"]).stands_for(&beat(1, 3, &[]), false), "of no source");
    }
}
