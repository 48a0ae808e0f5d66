//! Signed envelopes around any bytes, made by what the specification says and not by drctl.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::Manifest;
use drctl_store::{SigningKey, Trust, decode_manifest, encode_manifest};
use ed25519_dalek::Signer as _;
use serde_json::{Value, json};

use crate::site::Site;

/// What a manifest's envelope says of its payload.
pub const MANIFEST: &str = "application/vnd.drctl.manifest+json";

/// The same of the head of a piece of log.
pub const LOG: &str = "application/vnd.drctl.log+json";

/// The same of an index over pieces.
pub const INDEX: &str = "application/vnd.drctl.log-index+json";

/// The same of an acceptance.
pub const ACCEPTANCE: &str = "application/vnd.drctl.acceptance+json";

/// The same of the evidence of a drill.
pub const DRILL: &str = "application/vnd.drctl.drill+json";

/// The same of a beat.
pub const BEAT: &str = "application/vnd.drctl.beat+json";

/// The envelope of any payload.
///
/// # Panics
/// If the key is none.
#[must_use]
pub fn sealed(payload_type: &str, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let text = key.to_secret_text();
    let seed = text.trim().rsplit(' ').next().expect("a seed");
    let seed = STANDARD.decode(seed).expect("base64").try_into().expect("32 bytes");
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let signed = [head.as_bytes(), payload].concat();
    let signature = ed25519_dalek::SigningKey::from_bytes(&seed).sign(&signed);
    let envelope = json!({
        "payloadType": payload_type,
        "payload": STANDARD.encode(payload),
        "signatures": [{"keyid": "", "sig": STANDARD.encode(signature.to_bytes())}],
    });
    serde_json::to_vec(&envelope).expect("JSON")
}

/// The payload of an envelope, whoever signed it.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn opened(envelope: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(envelope).expect("JSON");
    let payload = STANDARD.decode(envelope["payload"].as_str().expect("a payload"));
    serde_json::from_slice(&payload.expect("base64")).expect("JSON")
}

/// Signs the manifest of a backup of the source `shop` again, in a repository that is a directory, with
/// something changed in it.
///
/// # Panics
/// If there is no good one.
pub fn resign(site: &Site, id: &str, change: impl FnOnce(&mut Manifest)) {
    let path = site.path("repository/s/shop/b").join(id).join("manifest.json");
    let (key, bytes) = (site.signing_key(), std::fs::read(&path).expect("a manifest"));
    let trust = Trust::new(vec![key.verifying_key()]);
    let (mut manifest, _) = decode_manifest(&bytes, &trust).expect("a good manifest");
    change(&mut manifest);
    std::fs::write(&path, encode_manifest(&manifest, &key)).expect("write the manifest");
}
