use std::fmt;

use serde::Serialize;

/// How much a connection to PostgreSQL over TCP must be protected, with the meaning that libpq gives
/// to `sslmode`; on a Unix socket it means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can; the certificate is not looked at.
    Prefer,
    /// Always encrypted; the certificate is checked only where a root certificate is set.
    Require,
    /// Encrypted, and the certificate is signed by a root we trust.
    VerifyCa,
    /// Encrypted, signed by a root we trust, and made out to the host.
    #[default]
    VerifyFull,
}

impl SslMode {
    const ALL: [SslMode; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// All there are, as libpq spells them.
    pub const WORDS: &'static [&'static str] = &{
        let mut words = [""; Self::ALL.len()];
        let mut at = 0;
        while at < words.len() {
            words[at] = Self::ALL[at].as_str();
            at += 1;
        }
        words
    };

    /// The word as libpq spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// The mode that libpq spells so.
    #[must_use]
    pub fn parse(word: &str) -> Option<SslMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    /// Whether the server's certificate is checked in any case.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyFull)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_spelled_as_in_libpq() {
        assert_eq!(SslMode::WORDS, ["disable", "prefer", "require", "verify-ca", "verify-full"]);
        for word in SslMode::WORDS {
            let mode = SslMode::parse(word).unwrap();
            assert_eq!(&mode.to_string(), word);
            assert_eq!(serde_json::to_value(mode).unwrap(), *word);
        }
        assert_eq!(SslMode::parse("verify_full"), None);
    }
}
