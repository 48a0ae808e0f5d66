//! A drill's evidence in one file, to give away.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::FormatError;

/// What it calls itself.
const FORMAT: &str = "drctl.drill-bundle/1";

/// What it is, for people.
const WHAT: &str = "bundle of a drill";

/// The most bytes of a bundle: evidence and two manifests, in base64.
pub const MAX_BUNDLE_BYTES: u64 = 256 << 20;

/// The objects that are given away, as they lie in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillBundle {
    /// The evidence.
    pub evidence: Vec<u8>,
    /// The manifests that it names, as far as they are there.
    pub manifests: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bundle: String,
    evidence: String,
    manifests: Few,
}

/// As many objects as evidence names, and no more: a file may be made to take any memory.
#[derive(Serialize)]
struct Few(Vec<String>);

/// So many manifests evidence names at most.
const FEW: usize = 2;

impl<'de> Deserialize<'de> for Few {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Few;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {FEW} objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Few, A::Error> {
                let mut few = Vec::new();
                while let Some(one) = all.next_element()? {
                    if few.len() == FEW {
                        return Err(serde::de::Error::invalid_length(FEW + 1, &self));
                    }
                    few.push(one);
                }
                Ok(Few(few))
            }
        }
        from.deserialize_seq(Reader)
    }
}

impl DrillBundle {
    /// The file: JSON, each object in base64.
    #[must_use]
    pub fn encode(&self) -> String {
        let file = File {
            bundle: FORMAT.to_owned(),
            evidence: STANDARD.encode(&self.evidence),
            manifests: Few(self.manifests.iter().map(|bytes| STANDARD.encode(bytes)).collect()),
        };
        let text = serde_json::to_string_pretty(&file).expect("strings are always JSON");
        text + "\n"
    }

    /// The same, read back. Proves nothing yet.
    ///
    /// # Errors
    /// [`FormatError`]: it is none, or one of a newer program.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let json = |error| FormatError::json(WHAT, &error);
        let file: File = serde_json::from_slice(bytes).map_err(json)?;
        let malformed = || FormatError::Malformed { what: WHAT };
        if file.bundle != FORMAT {
            return Err(malformed());
        }
        let read = |text: &String| STANDARD.decode(text).map_err(|_| malformed());
        let manifests = file.manifests.0.iter().map(read).collect::<Result<_, _>>()?;
        Ok(DrillBundle { evidence: read(&file.evidence)?, manifests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_nothing_else_is_one() {
        let bundle = DrillBundle { evidence: vec![1, 255], manifests: vec![vec![], vec![7]] };
        let text = bundle.encode();
        assert_eq!(DrillBundle::decode(text.as_bytes()).unwrap(), bundle);
        let newer = text.replace("bundle/1", "bundle/2");
        let odd = text.replace("\"Af8=\"", "\"?\"");
        let many = text.replacen("[", "[\"\", \"\", ", 1);
        let more = text.replacen('{', "{\"more\": 1,", 1);
        for other in [&newer, &odd, &many, &more, &String::new(), &"{}".to_owned()] {
            assert_ne!(*other, text);
            assert!(DrillBundle::decode(other.as_bytes()).is_err(), "{other}");
        }
    }
}
