use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

use crate::KeyError;

/// The Ed25519 key with which a host signs what it writes.
///
/// As text: `drctl-signing-key-v1 ` and the 32 bytes of the seed in base64.
pub struct SigningKey(ed25519_dalek::SigningKey);

const SIGNING_PREFIX: &str = "drctl-signing-key-v1 ";
/// How a recovery kit begins.
const KIT: &str = "drctl recovery kit";

const VERIFYING_PREFIX: &str = "ed25519:";

impl SigningKey {
    /// A new key from the operating system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(&rand::random::<[u8; 32]>()))
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// The key as its file holds it. A secret: for that file only.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        format!("{SIGNING_PREFIX}{}\n", STANDARD.encode(self.0.to_bytes()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key())
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = |why: &str| KeyError::new("the signing key", why);
        let body = text
            .trim()
            .strip_prefix(SIGNING_PREFIX)
            .ok_or_else(|| bad("it does not begin with `drctl-signing-key-v1`"))?;
        let bytes = STANDARD.decode(body.trim()).map_err(|_| bad("its base64 is damaged"))?;
        let seed = bytes.try_into().map_err(|_| bad("it does not hold 32 bytes"))?;
        Ok(SigningKey(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }
}

/// The public half of a [`SigningKey`]; as text `ed25519:` and 32 bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// SHA-256 of the key's 32 bytes, in hexadecimal: finds a key, proves nothing.
    #[must_use]
    pub fn keyid(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key in PEM (SubjectPublicKeyInfo), as `openssl pkeyutl -verify` takes it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // RFC 8410: SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING { key } }
        let der = [
            &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
            &self.0.as_bytes()[..],
        ]
        .concat();
        let body = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERIFYING_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bad = |why: &str| KeyError::new("a verifying key", format!("{why}: `{text}`"));
        let body = text
            .strip_prefix(VERIFYING_PREFIX)
            .ok_or_else(|| bad("it does not begin with `ed25519:`"))?;
        let bytes = STANDARD.decode(body).map_err(|_| bad("its base64 is damaged"))?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| bad("it does not hold 32 bytes"))?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes)
            .map_err(|_| bad("it is no Ed25519 key"))?;
        if key.is_weak() {
            return Err(bad("it is a weak key"));
        }
        Ok(VerifyingKey(key))
    }
}

/// Whom every segment is encrypted to. Never empty: no recipient, no backup.
#[derive(Clone)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl Recipients {
    /// Parses `age1…` texts.
    ///
    /// # Errors
    /// [`KeyError`] for a text that is no age recipient, or no text at all.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyError> {
        let parse = |text: &str| {
            text.parse().map_err(|why| KeyError::new("a recipient", format!("{why}: `{text}`")))
        };
        let list = texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(KeyError::new(
                "the recipients",
                "there is none, and nothing is stored \
                 that is not encrypted",
            ));
        }
        Ok(Recipients(list))
    }

    /// The texts, as manifests list them.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.0.iter().map(|recipient| recipient as &dyn age::Recipient)
    }
}

/// The age identities at hand: what opens backups.
#[derive(Clone)]
pub struct Identities(Vec<age::x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.recipients()).finish()
    }
}

impl Identities {
    /// Parses an identity file: a line `AGE-SECRET-KEY-1…` for each, `#` begins a comment. Of a
    /// recovery kit, whose first line says so, only such lines are read.
    ///
    /// # Errors
    /// [`KeyError`] for a line that is no identity (the error does not show it), or none at all.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let parse = |(at, line): (usize, &str)| {
            let why = || format!("line {at} is no valid `AGE-SECRET-KEY-1…` (mistyped?)");
            line.parse().map_err(|_| KeyError::new("the identity file", why()))
        };
        let kit = text.starts_with(KIT);
        let list = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .filter(|(_, line)| !kit || line.starts_with("AGE-SECRET-KEY-"))
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(KeyError::new("the identity file", "it holds no identity"));
        }
        Ok(Identities(list))
    }

    /// The recipients that these identities open for.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.to_public().to_string()).collect()
    }

    /// Each alone, beside the recipient that it opens for.
    #[must_use]
    pub fn one_by_one(&self) -> Vec<(String, Identities)> {
        let one = |identity: &age::x25519::Identity| {
            (identity.to_public().to_string(), Identities(vec![identity.clone()]))
        };
        self.0.iter().map(one).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| identity as &dyn age::Identity)
    }
}

/// A new age identity: the text for its file, as `age-keygen` writes it, and its recipient.
#[must_use]
pub fn new_identity(created: &str) -> (String, String) {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text =
        format!("# created: {created}\n# public key: {recipient}\n{}\n", secret.expose_secret());
    (text, recipient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_text() {
        let key = SigningKey::generate();
        let again: SigningKey = key.to_secret_text().parse().unwrap();
        assert_eq!(again.verifying_key(), key.verifying_key());
        let public: VerifyingKey = key.verifying_key().to_string().parse().unwrap();
        assert_eq!(public, key.verifying_key());
        let (text, recipient) = new_identity("2026-03-01T00:00:00Z");
        assert_eq!(
            Identities::parse(&text).unwrap().recipients(),
            std::slice::from_ref(&recipient)
        );
        let kit = format!("drctl recovery kit\n====\nmade today\n{text}");
        assert_eq!(Identities::parse(&kit).unwrap().recipients(), [recipient]);
    }

    #[test]
    fn bad_keys_are_refused_and_secrets_not_shown() {
        let secret = "AGE-SECRET-KEY-1NOTREALLYASECRET";
        let error = Identities::parse(secret).unwrap_err().to_string();
        assert!(!error.contains("NOTREALLY") && error.contains("line 1"), "{error}");
        assert!(Identities::parse("# nothing\n").is_err());
        assert!(Recipients::parse([]).is_err());
        assert!(Recipients::parse(["age1nope"]).is_err());
        assert!("ed25519:AAAA".parse::<VerifyingKey>().is_err());
        let weak = format!("ed25519:{}", STANDARD.encode([0u8; 32]));
        assert!(weak.parse::<VerifyingKey>().is_err());
        let key = SigningKey::generate();
        let body = key.to_secret_text();
        assert!(!format!("{key:?}").contains(body.split(' ').nth(1).unwrap().trim()));
    }
}
