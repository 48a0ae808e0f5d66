//! JSON to any place, signed where there is a key.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use super::Request;

/// A request with a JSON document, sent at this second. With a key the receiver can tell that it is ours,
/// and when it was sent.
pub(crate) fn signed_json(url: &str, key: Option<&str>, object: &Value, second: i64) -> Request {
    let mut request = Request::json(url, object);
    let second = second.to_string();
    if let Some(key) = key {
        let signed = signature(key, &second, &request.body);
        request.headers.push(("X-Drctl-Signature", format!("sha256={signed}")));
    }
    request.headers.push(("X-Drctl-Timestamp", second));
    request
}

/// HMAC-SHA-256 over the time, a full stop and the body, as hex.
fn signature(key: &str, second: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(second.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_time_and_body() {
        // As `printf '%s' '1.{}' | openssl dgst -sha256 -hmac key` says.
        let expected = "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
        assert_eq!(signature("key", "1", b"{}"), expected);
        assert_ne!(signature("key", "2", b"{}"), expected);
        assert_ne!(signature("other", "1", b"{}"), expected);
    }
}
