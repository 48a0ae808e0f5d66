//! What `pgbackrest verify` found, read from its text.
//!
//! It ends with status 0 whatever it found, and its text has no other form. What is not understood
//! counts as a problem.

use drctl_model::{label_type, shown};

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// The WAL, cluster by cluster.
    pub archives: Vec<VerifiedPart>,
    /// The backups.
    pub backups: Vec<VerifiedPart>,
    /// What it says of the whole: `ok`, `error`.
    pub status: String,
    /// What else it says: that a file of the stanza is missing, or something unknown.
    pub problems: Vec<String>,
}

/// What `verify` found of one backup, or of one cluster's WAL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifiedPart {
    /// The backup's label, or the archive's name (`15-1`).
    pub name: String,
    /// A backup's state: `valid`, `invalid`; nothing of WAL.
    pub state: Option<String>,
    /// How many files it has looked at.
    pub checked: u64,
    /// How many of them are good.
    pub valid: u64,
    /// How many are missing.
    pub missing: u64,
    /// How many have another checksum.
    pub checksum: u64,
    /// How many have another size.
    pub size: u64,
    /// How many cannot be read.
    pub other: u64,
}

impl VerifiedPart {
    /// Whether nothing is wrong with it, in any of the ways in which the text can say so: of a
    /// segment with two contents it says so only by the number of good ones.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let faults = self.missing + self.checksum + self.size + self.other;
        self.checked == self.valid
            && faults == 0
            && self.state.as_deref().is_none_or(|state| state == "valid")
    }
}

impl Verified {
    /// Whether everything is good. Says nothing of gaps in the WAL: `verify` does not look.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.status == "ok"
            && self.problems.is_empty()
            && self.archives.iter().chain(&self.backups).all(VerifiedPart::is_good)
    }

    /// What it found of a backup.
    #[must_use]
    pub fn backup(&self, label: &str) -> Option<&VerifiedPart> {
        self.backups.iter().find(|part| part.name == label)
    }

    /// Reads the text of `verify --output=text --verbose`; nothing where it is no such text.
    #[must_use]
    pub fn parse(text: &str, stanza: &str) -> Option<Verified> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = lines.next()?.strip_prefix("stanza: ")?;
        let status = lines.next()?.strip_prefix("status: ")?;
        if said != stanza {
            return None;
        }
        let mut found = Verified { status: shown(status, 40), ..Verified::default() };
        let mut last: Option<&mut VerifiedPart> = None;
        for line in lines {
            if let Some(part) = archive(line) {
                found.archives.push(part);
                last = found.archives.last_mut();
            } else if let Some(part) = backup(line) {
                found.backups.push(part);
                last = found.backups.last_mut();
            } else if !last.as_mut().is_some_and(|part| part.faults(line)) && !is_nothing(line) {
                found.problems.push(shown(line, 300));
            }
        }
        Some(found)
    }
}

impl VerifiedPart {
    /// Takes `missing: 0, checksum invalid: 0, size invalid: 0, other: 0`, of which any may be
    /// left out; `false` for another line.
    fn faults(&mut self, line: &str) -> bool {
        let mut read = self.clone();
        for field in line.split(", ") {
            let Some((name, count)) = field.split_once(": ") else { return false };
            let Ok(count) = count.parse() else { return false };
            match name {
                "missing" => read.missing = count,
                "checksum invalid" => read.checksum = count,
                "size invalid" => read.size = count,
                "other" => read.other = count,
                _ => return false,
            }
        }
        *self = read;
        true
    }
}

/// What it says of a stanza without WAL or without backups.
fn is_nothing(line: &str) -> bool {
    matches!(line, "archiveId: none found" | "backup: none found")
}

/// `archiveId: 15-1, total WAL checked: 12, total valid WAL: 12`.
fn archive(line: &str) -> Option<VerifiedPart> {
    let (name, rest) = line.strip_prefix("archiveId: ")?.split_once(", total WAL checked: ")?;
    let (checked, valid) = rest.split_once(", total valid WAL: ")?;
    let (checked, valid) = (checked.parse().ok()?, valid.parse().ok()?);
    Some(VerifiedPart { name: shown(name, 40), checked, valid, ..VerifiedPart::default() })
}

/// `backup: LABEL, status: valid, total files checked: 964, total valid files: 964`.
fn backup(line: &str) -> Option<VerifiedPart> {
    let (name, rest) = line.strip_prefix("backup: ")?.split_once(", status: ")?;
    let (state, rest) = rest.split_once(", total files checked: ")?;
    let (checked, valid) = rest.split_once(", total valid files: ")?;
    label_type(name).ok()?;
    Some(VerifiedPart {
        name: name.to_owned(),
        state: Some(shown(state, 40)),
        checked: checked.parse().ok()?,
        valid: valid.parse().ok()?,
        ..VerifiedPart::default()
    })
}
