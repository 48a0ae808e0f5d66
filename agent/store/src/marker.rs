use drctl_model::{Marker, MarkerHeader};
use serde::Deserialize;
use serde_json::Value;

use crate::FormatError;

/// The most bytes of a repository's marker.
pub const MAX_MARKER_BYTES: u64 = 64 << 10;

/// The marker object.
#[must_use]
pub fn encode_marker(marker: &Marker) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(marker).expect("a marker is always JSON");
    bytes.push(b'\n');
    bytes
}

/// As much of a marker as is needed to tell whether the rest can be read.
#[derive(Deserialize)]
struct Beginning {
    format: String,
    min_reader: u64,
    #[serde(default)]
    reader: Value,
    #[serde(default)]
    repository: Value,
}

/// Parses and checks a marker object: what it begins with first, and the rest only where this program
/// understands it.
///
/// # Errors
/// [`FormatError::TooLarge`], [`FormatError::Json`], [`FormatError::Marker`].
pub fn decode_marker(bytes: &[u8]) -> Result<Marker, FormatError> {
    if bytes.len() as u64 > MAX_MARKER_BYTES {
        return Err(FormatError::TooLarge { what: "marker", limit: 64 << 10 });
    }
    let json = |error| FormatError::json("marker", &error);
    let read: Beginning = serde_json::from_slice(bytes).map_err(json)?;
    let header = MarkerHeader {
        format: read.format,
        min_reader: u32::try_from(read.min_reader).unwrap_or(u32::MAX),
        reader: read.reader.as_str().unwrap_or_default().to_owned(),
        repository: read.repository.as_str().and_then(|id| id.parse().ok()),
    };
    header.check()?;
    serde_json::from_slice(bytes).map_err(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_marker_of_whatever_shape_names_what_reads_it() {
        let id = "0123456789abcdef0123456789abcdef";
        let cases = [
            (r#"{"format":"drctl","v":2,"min_reader":2,"reader":"0.7.0"}"#, "drctl 0.7.0 or newer"),
            (
                r#"{"format":"drctl","min_reader":4294967298,"reader":[1],"repository":{}}"#,
                "a newer drctl",
            ),
            (
                r#"{"format":"drctl","min_reader":2,"reader":"9 from evil.example"}"#,
                "a newer drctl",
            ),
        ];
        for (text, install) in cases {
            let error = decode_marker(text.as_bytes()).unwrap_err();
            assert!(error.is_newer(), "{error}");
            let FormatError::Marker(said) = error else { panic!("{error}") };
            assert!(said.to_string().ends_with(&format!("up to 1: install {install}")), "{said}");
        }
        let of = format!(r#"{{"format":"drctl","min_reader":2,"repository":"{id}"}}"#);
        let said = decode_marker(of.as_bytes()).unwrap_err();
        assert!(format!("{said:?}").contains(id), "{said:?}");
        for text in [r#"{"format":"other","min_reader":2}"#, r#"{"min_reader":2}"#, "", "[2]"] {
            assert!(!decode_marker(text.as_bytes()).unwrap_err().is_newer(), "{text}");
        }
    }
}
