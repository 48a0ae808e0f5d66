use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::text_id;
use crate::{Digest, Header, IdError, ManifestError, RepositoryId, SourceId, is_line};

/// The highest number of a beat.
pub const MAX_BEAT: u64 = 9_999_999_999;

/// The most jobs of a beat.
const MAX_JOBS: usize = 10_000;

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
        match self.jobs.len() <= MAX_JOBS && self.jobs.iter().all(|job| is_kind(&job.kind)) {
            true => Ok(()),
            false => odd("it has too many jobs, or one of an impossible kind"),
        }
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
        }
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
