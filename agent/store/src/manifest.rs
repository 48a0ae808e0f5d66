use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::{Facts, Manifest, Role, SourceId};
use serde::de::DeserializeOwned;

use crate::{
    FormatError, Identities, JsonError, Recipients, SealError, SigningKey, Trust, VerifyingKey,
    dsse, open_bytes, seal_bytes,
};

const PAYLOAD_TYPE: &str = "application/vnd.drctl.manifest+json";

/// The most plain bytes of a manifest's sealed facts.
pub const MAX_FACTS_BYTES: usize = 64 << 20;

/// The manifest object: a signed envelope around the manifest's JSON.
#[must_use]
pub fn encode_manifest(manifest: &Manifest, key: &SigningKey) -> Vec<u8> {
    let payload = serde_json::to_vec(manifest).expect("a manifest is always JSON");
    dsse::sign(PAYLOAD_TYPE, &payload, key)
}

/// Verifies, then parses, then checks a manifest object.
///
/// Whether it lies in the right place is asked with [`Manifest::belongs`].
///
/// # Errors
/// Every [`FormatError`] but those of markers and pages.
pub fn decode_manifest(
    bytes: &[u8],
    trust: &Trust,
) -> Result<(Manifest, VerifyingKey), FormatError> {
    let (payload, keys) = dsse::verify(PAYLOAD_TYPE, bytes, trust)?;
    let manifest = match dsse::parse::<Manifest>("manifest", &payload) {
        // Also what is not understood is told only where its signer may speak.
        Err(newer) if newer.is_newer() => {
            let Of { source } = serde_json::from_slice(&payload)
                .map_err(|error| FormatError::json("manifest", &error))?;
            trust.speaker(keys, &source, Role::Backup)?;
            return Err(newer);
        }
        parsed => parsed?,
    };
    manifest.check()?;
    let key = trust.speaker(keys, &manifest.source, Role::Backup)?;
    Ok((manifest, key))
}

/// Whose backup it is, whatever else it says.
#[derive(serde::Deserialize)]
struct Of {
    source: SourceId,
}

/// The manifest's `sealed` field.
///
/// # Errors
/// As [`seal_bytes`]; [`SealError::TooMuch`] for what [`open_facts`] would refuse.
pub fn seal_facts(facts: &Facts, recipients: &Recipients) -> Result<String, SealError> {
    let plain = serde_json::to_vec(facts).expect("facts are always JSON");
    let (what, bytes, limit) = ("the names and row counts", plain.len(), MAX_FACTS_BYTES);
    if bytes > limit {
        return Err(SealError::TooMuch { what, bytes, limit });
    }
    Ok(STANDARD.encode(seal_bytes(&plain, 3, recipients)?))
}

/// Opens the manifest's `sealed` field.
///
/// # Errors
/// As [`open_bytes`].
pub fn open_facts(manifest: &Manifest, identities: &Identities) -> Result<Facts, SealError> {
    open_field(&manifest.sealed, ("the sealed facts", MAX_FACTS_BYTES), identities)
}

/// Opens what is sealed in a field of a signed document: JSON of at most so many plain bytes.
///
/// # Errors
/// As [`open_bytes`].
pub(crate) fn open_field<T: DeserializeOwned>(
    sealed: &str,
    (what, limit): (&str, usize),
    identities: &Identities,
) -> Result<T, SealError> {
    let damaged = |what: String| SealError::Decompress { what };
    let sealed = STANDARD.decode(sealed).map_err(|_| damaged(format!("{what} are no base64")))?;
    let plain = open_bytes(&sealed, limit, identities)?;
    serde_json::from_slice(&plain)
        .map_err(|error| damaged(format!("{what}: {}", JsonError::from(&error))))
}

#[cfg(test)]
mod tests {
    use drctl_model::{Content, DatabaseFacts, StreamFacts, StreamId};

    use super::*;
    use crate::new_identity;
    use crate::trust::bound_elsewhere;

    #[test]
    fn a_newer_manifest_is_told_only_where_its_signer_may_speak() {
        let key = SigningKey::generate();
        let payload = br#"{"v":2,"min_reader":2,"reader":"9.1","source":"shop","kind":7}"#;
        let bytes = dsse::sign(PAYLOAD_TYPE, payload, &key);
        let own = Trust::new(vec![key.verifying_key()]);
        let said = decode_manifest(&bytes, &own).unwrap_err();
        assert_eq!(said.code(), "format_newer", "{said}");
        for bound in bound_elsewhere(&key.verifying_key(), Role::Backup) {
            assert_eq!(decode_manifest(&bytes, &bound).unwrap_err().code(), "wrong_signer");
        }
    }

    #[test]
    fn facts_that_nobody_could_read_back_are_not_sealed() {
        let facts = |name: usize| {
            let database = DatabaseFacts {
                name: "x".repeat(name),
                owner: String::new(),
                encoding: String::new(),
                collate: String::new(),
                ctype: String::new(),
                ..DatabaseFacts::default()
            };
            let content = Content::Database(Box::new(database));
            let plain_xxh128 = String::new();
            let id = StreamId::database(0);
            Facts { streams: vec![StreamFacts { id, plain_xxh128, content }], ..Facts::default() }
        };
        let (_, recipient) = new_identity("2026-03-01");
        let recipients = Recipients::parse([recipient.as_str()]).unwrap();
        assert!(seal_facts(&facts(1000), &recipients).is_ok());
        let refused = seal_facts(&facts(MAX_FACTS_BYTES), &recipients);
        assert!(matches!(refused, Err(SealError::TooMuch { .. })));
    }
}
