use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::{Drill, DrillId, DrillNames, RepositoryId, Role, SourceId};

use crate::dsse::Document;
use crate::manifest::open_field;
use crate::{
    FormatError, Identities, Recipients, SealError, SigningKey, Trust, VerifyingKey, seal_bytes,
};

/// The most bytes of a drill's evidence.
pub const MAX_DRILL_BYTES: usize = 64 << 10;

/// The most bytes of the sealed names in it, as text.
const MAX_SEALED: usize = 40 << 10;

/// The most plain bytes of these names.
const MAX_NAMES_BYTES: usize = 4 << 20;

const DOCUMENT: Document = Document {
    payload_type: "application/vnd.drctl.drill+json",
    what: "evidence of a drill",
    limit: MAX_DRILL_BYTES,
};

/// The object of a drill's evidence: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_drill(drill: &Drill, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    DOCUMENT.sign(drill, key)
}

/// Verifies, then parses, then checks evidence that was found under the name of `drill`; gives who
/// signed it too.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_drill(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    source: &SourceId,
    drill: &DrillId,
) -> Result<(Drill, VerifyingKey), FormatError> {
    let (found, signer) = DOCUMENT.read_signed::<Drill>(bytes, trust, (source, Role::Drill))?;
    found.check(repository, source, drill)?;
    Ok((found, signer))
}

/// Verifies, then parses evidence that was given away, wherever it lay; gives who signed it too.
///
/// # Errors
/// [`FormatError`]: none of these keys has signed it, or only a newer program reads it.
pub fn open_drill(bytes: &[u8], trust: &Trust) -> Result<(Drill, VerifyingKey), FormatError> {
    let (drill, keys) = DOCUMENT.read_by_any::<Drill>(bytes, trust)?;
    let key = trust.speaker(keys, &drill.source, Role::Drill)?;
    Ok((drill, key))
}

/// The field `sealed` of a drill: the names, as many as fit.
///
/// # Errors
/// As [`seal_bytes`].
pub fn seal_drill_names(names: &DrillNames, recipients: &Recipients) -> Result<String, SealError> {
    let mut names = names.clone();
    names.tables.sort_by_key(|table| std::cmp::Reverse(table.rows));
    loop {
        let plain = serde_json::to_vec(&names).expect("names are always JSON");
        let sealed = STANDARD.encode(seal_bytes(&plain, 9, recipients)?);
        if plain.len() <= MAX_NAMES_BYTES && sealed.len() <= MAX_SEALED {
            return Ok(sealed);
        }
        let fewer = names.tables.len() / 2;
        if names.tables.is_empty() {
            names.counted.truncate(names.counted.len() / 2);
            names.why.truncate(names.why.len().saturating_sub(1));
        }
        names.more += (names.tables.len() - fewer) as u64;
        names.tables.truncate(fewer);
    }
}

/// Opens the field `sealed` of a drill; nothing where it has none.
///
/// # Errors
/// As [`open_bytes`](crate::open_bytes).
pub fn open_drill_names(
    drill: &Drill,
    identities: &Identities,
) -> Result<Option<DrillNames>, SealError> {
    let sealed = drill.run.as_ref().and_then(|run| run.sealed.as_ref());
    let open =
        |sealed: &String| open_field(sealed, ("the sealed names", MAX_NAMES_BYTES), identities);
    sealed.map(open).transpose()
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupId, DrillOutcome, Equal, Header, Lsn, Timeline};
    use jiff::Timestamp;

    use super::*;
    use crate::trust::bound_elsewhere;

    fn drill() -> Drill {
        Drill {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            drill: DrillId::new(Timestamp::UNIX_EPOCH, 1),
            host: "db1".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            took_ms: 5400,
            system_id: Some(u64::MAX),
            timeline: Some(Timeline::FIRST),
            base: Some(BackupId::new(Timestamp::UNIX_EPOCH, 2)),
            newest: None,
            target: "the end of the WAL".to_owned(),
            outcome: DrillOutcome::Proven {
                replayed: Lsn(0x500_0148),
                shows: Some(Timestamp::UNIX_EPOCH),
                counted: vec![5],
                left_out: Vec::new(),
                equal: None,
            },
            run: None,
        }
    }

    #[test]
    fn evidence_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let key = SigningKey::generate();
        let read = |drill: &Drill, bytes: &[u8], key: &SigningKey| {
            let trust = Trust::new(vec![key.verifying_key()]);
            decode_drill(bytes, &trust, &RepositoryId::new(7), &drill.source, &drill.drill)
                .map(|(drill, _)| drill)
        };
        let good = drill();
        let failed = DrillOutcome::Failed { error: "verification_failed".to_owned() };
        let equal = DrillOutcome::Equal(Equal { tables: 2, rows: 7, others: 3, only_counted: 0 });
        let dump = Drill { system_id: None, timeline: None, outcome: equal, ..good.clone() };
        for good in [good.clone(), Drill { outcome: failed, ..good.clone() }, dump] {
            let bytes = encode_drill(&good, &key).unwrap();
            assert_eq!(read(&good, &bytes, &key).unwrap(), good);
            let stranger = read(&good, &bytes, &SigningKey::generate());
            assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        }
        let bytes = encode_drill(&good, &key).unwrap();
        for bound in bound_elsewhere(&key.verifying_key(), Role::Drill) {
            let (id, source) = (RepositoryId::new(7), &good.source);
            let refused = decode_drill(&bytes, &bound, &id, source, &good.drill);
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{bound:?}");
        }
        let other = Drill { drill: DrillId::new(Timestamp::UNIX_EPOCH, 9), ..good.clone() };
        assert!(read(&other, &bytes, &key).is_err());
        let other = Drill { source: "blog".parse().unwrap(), ..good.clone() };
        assert!(read(&other, &bytes, &key).is_err());
        let other = Drill { repository: RepositoryId::new(8), ..good.clone() };
        assert!(read(&other, &encode_drill(&other, &key).unwrap(), &key).is_err());
        let newer = Drill { header: Header::new(["x"]), ..good.clone() };
        assert!(read(&newer, &encode_drill(&newer, &key).unwrap(), &key).is_err());
        let long = Drill { target: "x".repeat(MAX_DRILL_BYTES), ..good };
        assert!(matches!(encode_drill(&long, &key), Err(FormatError::TooLarge { .. })));
    }
}
