//! DSSE: an envelope that signs the exact bytes of its payload.
//!
//! Specification: <https://github.com/secure-systems-lab/dsse>. Forty lines of our own, because
//! the libraries that have it bring a whole online trust system along.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use drctl_model::{Header, Role, SourceId};

use crate::keys::SigningKey;
use crate::trust::short;
use crate::{FormatError, Trust, VerifyingKey};

/// The most bytes of an envelope, and so of a manifest.
pub const MAX_ENVELOPE_BYTES: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// DSSE's pre-authentication encoding: what is signed.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// What an envelope is called, for people.
pub(crate) const ENVELOPE: &str = "signed envelope";

/// A kind of small JSON document that is signed as a whole.
pub(crate) struct Document {
    pub(crate) payload_type: &'static str,
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// The most bytes of its object.
    pub(crate) limit: usize,
}

impl Document {
    /// The object of a document.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`]: readers would refuse it.
    pub(crate) fn sign<T: Serialize>(
        &self,
        value: &T,
        key: &SigningKey,
    ) -> Result<Vec<u8>, FormatError> {
        let payload = serde_json::to_vec(value).expect("a document is always JSON");
        let bytes = sign(self.payload_type, &payload, key);
        self.fits(&bytes).map(|()| bytes)
    }

    /// Verifies, then parses; what it says is still to be checked. Gives the key that signed it too, which
    /// must be allowed to sign this of the source.
    ///
    /// # Errors
    /// [`FormatError`]: nobody whom we trust has signed it, or it is none.
    pub(crate) fn read_signed<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        trust: &Trust,
        (source, role): (&SourceId, Role),
    ) -> Result<(T, VerifyingKey), FormatError> {
        let (payload, keys) = self.verified(bytes, trust)?;
        let signer = trust.speaker(keys, source, role)?;
        Ok((parse(self.what, &payload)?, signer))
    }

    /// The same where what it says decides who must have signed it: gives all trusted keys that did.
    ///
    /// # Errors
    /// As [`read_signed`](Self::read_signed).
    pub(crate) fn read_by_any<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        trust: &Trust,
    ) -> Result<(T, Vec<VerifyingKey>), FormatError> {
        let (payload, keys) = self.verified(bytes, trust)?;
        Ok((parse(self.what, &payload)?, keys))
    }

    fn verified(
        &self,
        bytes: &[u8],
        trust: &Trust,
    ) -> Result<(Vec<u8>, Vec<VerifyingKey>), FormatError> {
        self.fits(bytes)?;
        verify(self.payload_type, bytes, trust)
    }

    fn fits(&self, bytes: &[u8]) -> Result<(), FormatError> {
        match bytes.len() <= self.limit {
            true => Ok(()),
            false => Err(FormatError::TooLarge { what: self.what, limit: self.limit }),
        }
    }
}

/// What was signed: its header first, and the rest only where this program understands it. The rest of
/// a newer document may be nothing that can be parsed here.
///
/// # Errors
/// [`FormatError::Manifest`] for a document of a newer program; [`FormatError::Json`].
pub(crate) fn parse<T: DeserializeOwned>(
    what: &'static str,
    payload: &[u8],
) -> Result<T, FormatError> {
    let json = |error| FormatError::json(what, &error);
    let header: Header = serde_json::from_slice(payload).map_err(json)?;
    header.check()?;
    serde_json::from_slice(payload).map_err(json)
}

impl FormatError {
    /// Whether no key that is trusted has signed any document here, as far as can be seen.
    #[must_use]
    pub fn is_unsigned(&self) -> bool {
        matches!(
            self,
            FormatError::Untrusted { .. }
                | FormatError::TooLarge { .. }
                | FormatError::Malformed { .. }
                | FormatError::NoEnvelope { .. }
        )
    }
}

/// The envelope around `payload`, signed by `key`.
pub(crate) fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let signature = Signature {
        keyid: key.verifying_key().keyid(),
        sig: STANDARD.encode(key.sign(&pae(payload_type, payload))),
    };
    let envelope = Envelope {
        payload_type: payload_type.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![signature],
    };
    serde_json::to_vec(&envelope).expect("strings are always JSON")
}

/// The payload, if one of the trusted keys signed it, and those that did.
pub(crate) fn verify(
    payload_type: &str,
    bytes: &[u8],
    trust: &Trust,
) -> Result<(Vec<u8>, Vec<VerifyingKey>), FormatError> {
    let (payload, signatures) = open(payload_type, bytes)?;
    let message = pae(payload_type, &payload);
    let of = |(_, signature): &(String, [u8; 64])| {
        trust.iter().find(|key| key.verifies(&message, signature)).cloned()
    };
    let keys: Vec<VerifyingKey> = signatures.iter().filter_map(of).collect();
    if keys.is_empty() {
        let named = signatures.iter().map(|(keyid, _)| short(keyid));
        return Err(FormatError::Untrusted { named: named.collect::<Vec<_>>().join(", ") });
    }
    Ok((payload, keys))
}

/// A payload, and its signatures under the names that they give to their keys.
type Opened = (Vec<u8>, Vec<(String, [u8; 64])>);

/// The payload without any proof of who wrote it, and the raw signatures.
pub(crate) fn open(payload_type: &str, bytes: &[u8]) -> Result<Opened, FormatError> {
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(FormatError::TooLarge { what: ENVELOPE, limit: MAX_ENVELOPE_BYTES });
    }
    let envelope: Envelope = serde_json::from_slice(bytes)
        .map_err(|error| FormatError::NoEnvelope { source: (&error).into() })?;
    if envelope.payload_type != payload_type {
        return Err(FormatError::PayloadType);
    }
    let malformed = || FormatError::Malformed { what: ENVELOPE };
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| malformed())?;
    if envelope.signatures.is_empty() || envelope.signatures.len() > 16 {
        return Err(malformed());
    }
    let signatures = envelope
        .signatures
        .iter()
        .map(|signature| {
            let bytes = STANDARD.decode(&signature.sig).ok()?.try_into().ok()?;
            Some((signature.keyid.clone(), bytes))
        })
        .collect::<Option<Vec<(String, [u8; 64])>>>()
        .ok_or_else(malformed)?;
    Ok((payload, signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/x-test";

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_a_trusted_key_makes_an_envelope_good() {
        let (ours, other) = (SigningKey::generate(), SigningKey::generate());
        let bytes = sign(TYPE, b"{}", &ours);
        let trusted = Trust::new(vec![other.verifying_key(), ours.verifying_key()]);
        let (payload, key) = verify(TYPE, &bytes, &trusted).unwrap();
        assert_eq!((payload.as_slice(), key), (&b"{}"[..], vec![ours.verifying_key()]));
        let stranger = Trust::new(vec![other.verifying_key()]);
        assert!(matches!(verify(TYPE, &bytes, &stranger), Err(FormatError::Untrusted { .. })));
        assert!(matches!(
            verify(TYPE, &bytes, &Trust::new(vec![])),
            Err(FormatError::Untrusted { .. })
        ));
    }

    #[test]
    fn changes_are_refused() {
        let key = SigningKey::generate();
        let trust = Trust::new(vec![key.verifying_key()]);
        let good = String::from_utf8(sign(TYPE, b"{\"rows\": 5}", &key)).unwrap();
        let other = STANDARD.encode(b"{\"rows\": 6}");
        let altered = good.replace(&STANDARD.encode(b"{\"rows\": 5}"), &other);
        assert_ne!(good, altered);
        assert!(matches!(
            verify(TYPE, altered.as_bytes(), &trust),
            Err(FormatError::Untrusted { .. })
        ));
        assert!(matches!(
            verify("application/y", good.as_bytes(), &trust),
            Err(FormatError::PayloadType)
        ));
        for (from, to) in [
            ("{\"payloadType\"", "{\"extra\":1,\"payloadType\""),
            ("{\"payloadType\"", "{\"payload\":\"\",\"payloadType\""),
            ("\"sig\":\"", "\"sig\":\"AA"),
        ] {
            let altered = good.replacen(from, to, 1);
            assert_ne!(good, altered);
            assert!(verify(TYPE, altered.as_bytes(), &trust).is_err(), "{altered}");
        }
    }
}
