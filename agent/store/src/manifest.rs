use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::{Facts, Manifest};

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
    let (payload, key) = dsse::verify(PAYLOAD_TYPE, bytes, trust)?;
    let manifest = parse(&payload)?;
    manifest.check()?;
    Ok((manifest, key))
}

/// What an envelope says of itself, *without any proof*: only to tell a person what lies there.
///
/// # Errors
/// [`FormatError`] where it cannot be read at all.
pub fn inspect_manifest(bytes: &[u8]) -> Result<Manifest, FormatError> {
    parse(&dsse::open(PAYLOAD_TYPE, bytes)?.0)
}

fn parse(payload: &[u8]) -> Result<Manifest, FormatError> {
    serde_json::from_slice(payload).map_err(|source| FormatError::json("manifest", &source))
}

/// The manifest's `sealed` field.
///
/// # Errors
/// As [`seal_bytes`].
pub fn seal_facts(facts: &Facts, recipients: &Recipients) -> Result<String, SealError> {
    let plain = serde_json::to_vec(facts).expect("facts are always JSON");
    Ok(STANDARD.encode(seal_bytes(&plain, 3, recipients)?))
}

/// Opens the manifest's `sealed` field.
///
/// # Errors
/// As [`open_bytes`].
pub fn open_facts(manifest: &Manifest, identities: &Identities) -> Result<Facts, SealError> {
    let damaged = |what: String| SealError::Decompress { what };
    let sealed = STANDARD
        .decode(&manifest.sealed)
        .map_err(|_| damaged("the sealed facts are no base64".to_owned()))?;
    let plain = open_bytes(&sealed, MAX_FACTS_BYTES, identities)?;
    serde_json::from_slice(&plain)
        .map_err(|error| damaged(format!("the sealed facts: {}", JsonError::from(&error))))
}
