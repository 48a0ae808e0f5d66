//! A drill's evidence in one file, which anybody can verify who has nothing but that and the public key.

use anyhow::Result;
use drctl_model::{Drill, DrillNames, Named, Verdict, total};
use drctl_store::{
    DrillBundle, Identities, Trust, decode_manifest, digest, open_drill, open_drill_names,
};

use crate::repository::{Repository, evidence, manifest_object};

/// What a bundle says, and whether that is true.
#[derive(Debug)]
pub struct VerifiedBundle {
    /// The evidence, where one of the given keys has signed it.
    pub drill: Option<(Drill, String)>,
    /// The names, where an identity opens them.
    pub names: Option<DrillNames>,
    /// What was looked at, each with what was found.
    pub looked: Vec<Look>,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whether it is as it has to be; nothing where it could not be looked at.
    pub good: Option<bool>,
    /// What was found, in words.
    pub text: String,
}

impl VerifiedBundle {
    /// Whether all is true that it says, as far as that could be looked at.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.drill.is_some() && self.looked.iter().all(|look| look.good != Some(false))
    }

    fn say(&mut self, good: Option<bool>, text: impl Into<String>) {
        self.looked.push(Look { good, text: text.into() });
    }
}

/// A drill as one file.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError); [`FormatError`](drctl_store::FormatError) for what is there and does not
/// count.
pub async fn bundle(repository: &Repository, drill: &Drill) -> Result<String> {
    let evidence = evidence(repository, &drill.source, &drill.drill).await?.to_vec();
    let mut manifests = Vec::new();
    for named in named(drill) {
        let found = manifest_object(repository, &drill.source, &named).await?;
        manifests.extend(found.map(|bytes| bytes.to_vec()));
    }
    Ok(DrillBundle { evidence, manifests }.encode())
}

/// The manifests that it names.
fn named(drill: &Drill) -> Vec<Named> {
    let Some(run) = &drill.run else { return Vec::new() };
    let base = drill.base.clone().zip(run.manifest_sha256);
    let base = base.map(|(backup, manifest_sha256)| Named { backup, manifest_sha256 });
    base.into_iter().chain(run.with.clone()).collect()
}

/// Looks at a bundle with nothing but public keys: those that may sign drills, and those that may sign backups; and an
/// identity where there is one. No IO.
#[must_use]
pub fn verify_bundle(
    bytes: &[u8],
    (of_drills, of_backups): (&Trust, &Trust),
    identities: Option<&Identities>,
) -> VerifiedBundle {
    let mut found = VerifiedBundle { drill: None, names: None, looked: Vec::new() };
    let DrillBundle { evidence, manifests } = match DrillBundle::decode(bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            found.say(Some(false), format!("it is no bundle, or one of a newer drctl: {error}"));
            return found;
        }
    };
    match open_drill(&evidence, of_drills) {
        Ok((drill, key)) => {
            let signer = of_drills.name(&key);
            found.say(Some(true), format!("the evidence was signed by {signer}, and is unchanged"));
            judge(&mut found, &drill);
            for named in named(&drill) {
                let look = manifest(&drill, &named, &manifests, of_backups);
                found.looked.push(look);
            }
            if let Some(identities) = identities {
                names(&mut found, &drill, identities);
            }
            found.drill = Some((drill, signer));
        }
        Err(error) => found.say(Some(false), format!("the evidence does not count: {error}")),
    }
    found
}

/// Whether what it says of itself holds together.
fn judge(found: &mut VerifiedBundle, drill: &Drill) {
    let Some(run) = &drill.run else {
        found.say(None, "it was a recovery by hand: of how it went nothing is known");
        return;
    };
    let phases = total(run.phases.iter().map(|clock| clock.ms));
    // Its evidence is written behind the last phase.
    let fits = phases <= drill.took_ms.saturating_add(1000);
    found.say(
        Some(fits),
        match fits {
            true => "its phases are no longer than the whole",
            false => "its phases are longer than the whole",
        },
    );
    if let (Some(seed), of) = (run.point.seed, run.point.of) {
        let at = seed.checked_rem(of);
        let good = at.is_some();
        let at = at.map_or_else(String::new, |at| format!(": number {at} of {of}, from 0 on"));
        found.say(Some(good), format!("the backup was chosen by the number {seed}{at}"));
    }
    if drill.outcome.is_proven() && drill.base.is_none() {
        found.say(Some(false), "it proves something, and names no backup");
    }
    if drill.verdict() == Verdict::Pass && !run.cleaned {
        found.say(None, "what it restored was not removed from its host");
    }
}

/// Whether the manifest is the one that the evidence names.
fn manifest(drill: &Drill, named: &Named, all: &[Vec<u8>], trust: &Trust) -> Look {
    let Named { backup, manifest_sha256 } = named;
    let Some(bytes) = all.iter().find(|bytes| digest(bytes) == *manifest_sha256) else {
        let text = format!(
            "the manifest of {backup} is not in the bundle: it was gone when that was made. The \
             evidence names its digest"
        );
        return Look { good: None, text };
    };
    match decode_manifest(bytes, trust) {
        Ok((manifest, key)) => {
            let same = manifest.backup == *backup
                && manifest.source == drill.source
                && manifest.repository == drill.repository;
            let signer = trust.name(&key);
            let text = match same {
                true => format!("the manifest of {backup} is the one it names, signed by {signer}"),
                false => format!("the manifest of {backup} is another backup's"),
            };
            Look { good: Some(same), text }
        }
        Err(error) => {
            let text = format!(
                "the manifest of {backup} is the one that the evidence names; whether it counts is \
                 not known: {error}"
            );
            Look { good: None, text }
        }
    }
}

/// Opens the names, and compares them with what everybody may read.
fn names(found: &mut VerifiedBundle, drill: &Drill, identities: &Identities) {
    match open_drill_names(drill, identities) {
        Ok(Some(names)) => {
            let equal = drill.outcome.equal();
            let (tables, rows) = equal.map_or((0, 0), |equal| (equal.tables, equal.rows));
            let listed = names.tables.len() as u64 + names.more;
            let of_listed = total(names.tables.iter().map(|table| table.rows));
            let fits =
                listed == tables && (of_listed == rows || names.more > 0 && of_listed < rows);
            found.say(
                Some(fits),
                match fits {
                    true => "the names were opened, and fit the numbers",
                    false => "the names were opened, and do not fit the numbers",
                },
            );
            found.names = Some(names);
        }
        Ok(None) => found.say(None, "it holds no names"),
        Err(error) => found.say(None, format!("the names could not be opened: {error}")),
    }
}
