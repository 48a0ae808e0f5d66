use drctl_model::{Beat, HostId, RepositoryId, Role, SourceId};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey, digest};

/// The most bytes of a beat.
pub const MAX_BEAT_BYTES: usize = 1 << 20;

const DOCUMENT: Document = Document {
    payload_type: "application/vnd.drctl.beat+json",
    what: "beat",
    limit: MAX_BEAT_BYTES,
};

/// A host as keys name it.
#[must_use]
pub fn host_id(name: &str) -> HostId {
    HostId::of(name, &digest(name.as_bytes()))
}

/// The object of a beat: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_beat(beat: &Beat, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    DOCUMENT.sign(beat, key)
}

/// Verifies, then parses, then checks a beat that was found under a host and a number; gives the key that
/// signed it, which must be believed, in whatever role, of every source that the beat tells something of.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, it belongs elsewhere, or only a newer program
/// reads it.
pub fn decode_beat(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: (&HostId, u64),
) -> Result<(Beat, VerifyingKey), FormatError> {
    let (beat, keys) = DOCUMENT.read_by_any::<Beat>(bytes, trust)?;
    beat.check(repository, of, &host_id(&beat.host))?;
    let unbelieved = |key: &VerifyingKey| {
        let may =
            |source: &SourceId| Role::ALL.iter().any(|role| trust.believes(key, source, *role));
        beat.sources().find(|source| !may(source)).cloned()
    };
    if let Some(key) = keys.iter().find(|key| unbelieved(key).is_none()) {
        let key = key.clone();
        return Ok((beat, key));
    }
    let wrong = keys.first().and_then(|key| Some((trust.name(key), unbelieved(key)?)));
    let (signer, source_id) = wrong.ok_or(FormatError::Untrusted { named: String::new() })?;
    Err(FormatError::WrongSigner { signer, source_id, role: Role::Backup })
}

#[cfg(test)]
mod tests {
    use drctl_model::{BeatJob, BeatState, Header};
    use jiff::Timestamp;

    use super::*;
    use crate::trust::bound_elsewhere;

    fn beat(sources: &[&str]) -> Beat {
        let job = |source: &&str| BeatJob {
            source: source.parse().unwrap(),
            kind: "backup".to_owned(),
            state: BeatState::Idle,
            since: None,
            due: None,
            next: None,
            last: None,
        };
        Beat {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            host: "DB1".to_owned(),
            agent: "0123456789abcdef".to_owned(),
            seq: 3,
            written: Timestamp::UNIX_EPOCH,
            version: "0.1.0".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            next_seconds: 300,
            jobs: sources.iter().map(job).collect(),
            findings: None,
        }
    }

    fn read(beat: &Beat, key: &SigningKey, trust: &Trust, seq: u64) -> Result<Beat, FormatError> {
        let bytes = encode_beat(beat, key).unwrap();
        decode_beat(&bytes, trust, &RepositoryId::new(7), (&host_id("DB1"), seq)).map(|read| read.0)
    }

    #[test]
    fn a_beat_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let (key, good) = (SigningKey::generate(), beat(&["shop"]));
        let trust = Trust::new(vec![key.verifying_key()]);
        assert_eq!(read(&good, &key, &trust, 3).unwrap(), good);
        let stranger = read(&good, &SigningKey::generate(), &trust, 3);
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        assert!(read(&good, &key, &trust, 4).is_err(), "copied to a higher number");
        let elsewhere = Beat { host: "db1".to_owned(), ..good.clone() };
        assert!(read(&elsewhere, &key, &trust, 3).is_err(), "another host's name");
        let newer = Beat { header: Header::new(["x"]), ..good.clone() };
        assert!(read(&newer, &key, &trust, 3).unwrap_err().is_newer());
        let mut altered = encode_beat(&good, &key).unwrap();
        let at = altered.len() / 2;
        altered[at] ^= 1;
        let of = (&host_id("DB1"), 3);
        assert!(decode_beat(&altered, &trust, &RepositoryId::new(7), of).is_err());
    }

    #[test]
    fn a_key_tells_nothing_of_sources_that_are_not_its_own() {
        let key = SigningKey::generate();
        // Of every role but one, which is enough; and of another source.
        let [blog, others] = bound_elsewhere(&key.verifying_key(), Role::Backup);
        assert!(read(&beat(&["shop"]), &key, &others, 3).is_ok());
        assert!(read(&beat(&["blog"]), &key, &blog, 3).is_ok());
        assert!(read(&beat(&[]), &key, &blog, 3).is_ok(), "an agent without sources");
        for sources in [&["shop"][..], &["blog", "shop"]] {
            let refused = read(&beat(sources), &key, &blog, 3);
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{sources:?}");
        }
    }
}
