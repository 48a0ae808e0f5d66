use drctl_model::Marker;

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

/// Parses and checks a marker object.
///
/// # Errors
/// [`FormatError::TooLarge`], [`FormatError::Json`], [`FormatError::Marker`].
pub fn decode_marker(bytes: &[u8]) -> Result<Marker, FormatError> {
    if bytes.len() as u64 > MAX_MARKER_BYTES {
        return Err(FormatError::TooLarge { what: "marker", limit: 64 << 10 });
    }
    let marker: Marker =
        serde_json::from_slice(bytes).map_err(|source| FormatError::json("marker", &source))?;
    marker.check()?;
    Ok(marker)
}
