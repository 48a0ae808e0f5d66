use drctl_model::{Role, SourceId};

use crate::{FormatError, VerifyingKey};

/// How much of a key's identifier is shown to people: enough to find it in a list.
const SHOWN: usize = 16;

/// A key whose signatures we believe, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key: VerifyingKey,
    /// Whose it is, for people.
    pub name: Option<String>,
    /// The sources that it speaks for; nothing: all.
    pub sources: Option<Vec<SourceId>>,
    /// What it may sign of them; nothing: all of it.
    pub roles: Option<Vec<Role>>,
}

impl Signer {
    /// A key that speaks for every source.
    #[must_use]
    pub fn of_all(key: VerifyingKey) -> Self {
        Signer { key, name: None, sources: None, roles: None }
    }

    /// What counts of it, in a line.
    fn line(&self) -> String {
        format!("{} {:?} {:?}\n", self.key, self.sources, self.roles)
    }

    /// Whether it may sign that of a source.
    #[must_use]
    pub fn speaks_for(&self, source: &SourceId, role: Role) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.contains(source))
            && self.roles.as_ref().is_none_or(|roles| roles.contains(&role))
    }
}

/// The keys whose signatures we believe: from local configuration, never from the bucket.
#[derive(Debug, Clone)]
pub struct Trust(Vec<Signer>);

impl Trust {
    /// Exactly these keys, each for every source.
    #[must_use]
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        Trust(keys.into_iter().map(Signer::of_all).collect())
    }

    /// Exactly these keys, each for what it says.
    #[must_use]
    pub fn of(signers: Vec<Signer>) -> Self {
        Trust(signers)
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.0.iter().map(|signer| &signer.key)
    }

    /// The keys, with what they may speak for.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }

    /// Stands for these keys and all that they may sign.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut lines: Vec<String> = self.0.iter().map(Signer::line).collect();
        lines.sort();
        crate::digest(lines.concat().as_bytes()).to_string()
    }

    /// What people call a key.
    #[must_use]
    pub fn name(&self, key: &VerifyingKey) -> String {
        let known = self.0.iter().find(|signer| signer.key == *key);
        known.and_then(|signer| signer.name.clone()).unwrap_or_else(|| short(&key.keyid()))
    }

    /// What people call the key with this identifier; a part of it where the key is not known.
    #[must_use]
    pub fn name_of(&self, keyid: &str) -> String {
        let known = self.0.iter().find(|signer| signer.key.keyid() == keyid);
        known.map_or_else(|| short(keyid), |signer| self.name(&signer.key))
    }

    /// Whether what a key signs of a source is believed.
    #[must_use]
    pub fn believes(&self, key: &VerifyingKey, source: &SourceId, role: Role) -> bool {
        self.0.iter().any(|signer| signer.key == *key && signer.speaks_for(source, role))
    }

    /// The one of the keys that signed a document that may speak for its source.
    ///
    /// # Errors
    /// [`FormatError::WrongSigner`].
    pub(crate) fn speaker(
        &self,
        keys: Vec<VerifyingKey>,
        source: &SourceId,
        role: Role,
    ) -> Result<VerifyingKey, FormatError> {
        let name = keys.first().map(|key| self.name(key)).unwrap_or_default();
        let may = |key: &VerifyingKey| self.believes(key, source, role);
        let wrong = || FormatError::WrongSigner { signer: name, source_id: source.clone(), role };
        keys.into_iter().find(may).ok_or_else(wrong)
    }
}

/// The beginning of a key's identifier.
pub(crate) fn short(keyid: &str) -> String {
    keyid.chars().filter(char::is_ascii_hexdigit).take(SHOWN).collect()
}

/// Trust in a key that speaks for another source than `shop`, and in one that has not this role.
#[cfg(test)]
pub(crate) fn bound_elsewhere(key: &VerifyingKey, role: Role) -> [Trust; 2] {
    let (name, sources, roles) = (None, None, None);
    let bound = Signer { key: key.clone(), name, sources, roles };
    let blog = Some(vec!["blog".parse().expect("a source")]);
    let others = Some(Role::ALL.into_iter().filter(|other| *other != role).collect());
    let signers = [Signer { sources: blog, ..bound.clone() }, Signer { roles: others, ..bound }];
    signers.map(|signer| Trust::of(vec![signer]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    #[test]
    fn a_key_speaks_for_its_sources_and_its_role_only() {
        let (shop, blog): (SourceId, SourceId) = ("shop".parse().unwrap(), "blog".parse().unwrap());
        let (one, other) =
            (SigningKey::generate().verifying_key(), SigningKey::generate().verifying_key());
        let bound = Signer {
            key: one.clone(),
            name: Some("db1".to_owned()),
            sources: Some(vec![shop.clone()]),
            roles: Some(vec![Role::Backup, Role::Log]),
        };
        let trust = Trust::of(vec![bound, Signer::of_all(other.clone())]);
        for (key, source, role, may) in [
            (&one, &shop, Role::Backup, true),
            (&one, &shop, Role::Drill, false),
            (&one, &blog, Role::Backup, false),
            (&other, &blog, Role::Drill, true),
        ] {
            assert_eq!(trust.believes(key, source, role), may, "{source} {role}");
            assert_eq!(trust.speaker(vec![key.clone()], source, role).is_ok(), may);
        }
        // Of two signatures the one counts that may.
        let both = vec![one.clone(), other.clone()];
        assert_eq!(trust.speaker(both, &blog, Role::Backup).unwrap(), other);
        let error = trust.speaker(vec![one], &blog, Role::Backup).unwrap_err();
        assert!(error.to_string().contains("db1") && error.to_string().contains("blog"));
        assert_eq!(trust.name(&other), short(&other.keyid()));
    }
}
