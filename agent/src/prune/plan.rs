//! The plan: pure. What goes, what stays and why, and what stands for all of that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use drctl_model::{
    BackupId, BackupSummary, Digest, InForce, Lineage, LogAt, Lsn, SourceId, planted,
};
use drctl_policies::Policy;
use drctl_policies::retention::{self, Candidate, Claim, Reason, Verdict};
use jiff::Timestamp;

use super::holdings::{Holdings, Weight};
use super::orphans::Orphan;
use crate::host::AgentError;
use crate::restore::known::{LogThatStays, Stays};

/// How many backups may go in one run without somebody saying how many.
const MOST: usize = 100;

/// What would be removed of a source, and why everything else stays.
#[derive(Debug, Clone)]
pub struct PrunePlan {
    /// The source.
    pub source: SourceId,
    /// The name of its policy.
    pub policy: String,
    /// Why nothing may go now, each in a sentence; empty where something may.
    pub blocked: Vec<String>,
    /// Why nothing goes unless a person says so.
    pub unattended: Option<String>,
    /// All backups that the bucket has of it, the newest first.
    pub backups: Vec<Planned>,
    /// The log of each lineage that is known.
    pub log: Vec<LogCut>,
    /// What is left of backups whose removal was begun and did not come to its end.
    pub rest: Vec<Rest>,
    /// What attempts have left that never became backups, those that go and those that stay for now.
    pub orphans: Vec<Orphan>,
}

/// A backup.
#[derive(Debug, Clone)]
pub struct Planned {
    /// What the catalog keeps of it.
    pub summary: BackupSummary,
    /// Its objects, all states of them.
    pub objects: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// Why it stays; without any it goes.
    pub reasons: Vec<Reason>,
}

/// What is left of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Which.
    pub backup: BackupId,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The log of a lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCut {
    /// Which.
    pub lineage: Lineage,
    /// What people call it.
    pub called: String,
    /// Pieces that end here or before go; nothing where none does.
    pub before: Option<LogAt>,
    /// Why the rest stays, or all of it goes.
    pub why: String,
    /// How many objects go, and their bytes.
    pub objects: u64,
    /// The bytes of these.
    pub bytes: u64,
}

impl Planned {
    /// Whether it would be removed.
    #[must_use]
    pub fn goes(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl LogCut {
    /// What people call the log before a position.
    #[must_use]
    pub fn up_to(&self, before: LogAt) -> String {
        match self.lineage.timeline() {
            Some(_) => format!("{} before {}", self.called, Lsn(before.0)),
            None => format!("{} before {before}", self.called),
        }
    }
}

impl PrunePlan {
    /// That something of it may go at all.
    ///
    /// # Errors
    /// [`AgentError::Usage`] of a source whose removals are blocked.
    pub fn may_go(&self) -> Result<(), AgentError> {
        if self.blocked.is_empty() {
            return Ok(());
        }
        let why = self.blocked.join("; ");
        let text = format!("nothing of {} may go now: {why}. Nothing was removed", self.source);
        Err(AgentError::Usage(text))
    }

    /// The backups that would be removed, what is based on others before these: so nothing is ever there
    /// without what it is based on.
    #[must_use]
    pub fn going(&self) -> Vec<&Planned> {
        let mut going: Vec<&Planned> = self.backups.iter().filter(|one| one.goes()).collect();
        let parents: BTreeMap<&BackupId, &BackupId> = going
            .iter()
            .filter_map(|one| Some((&one.summary.backup, &one.summary.kind.parent()?.backup)))
            .collect();
        let depths = depths(&parents);
        // Of those that are based on equally many the oldest goes first.
        going.reverse();
        going.sort_by_cached_key(|one| {
            std::cmp::Reverse(depths.get(&one.summary.backup).copied().unwrap_or_default())
        });
        going
    }

    /// Why something that would go, and is not `gone` yet, has to stay by now: since this was planned
    /// somebody said so of it, or of what is based on it.
    #[must_use]
    pub fn claimed(&self, in_force: &InForce, gone: &[BackupId]) -> Option<String> {
        let ids = || self.backups.iter().map(|one| &one.summary.backup);
        let claim = |id: &'_ BackupId| claims(in_force, id).into_iter().next();
        let claimed: Vec<(&BackupId, Claim)> =
            ids().filter_map(|id| Some((id, claim(id)?))).collect();
        if claimed.is_empty() {
            return None;
        }
        let parent = |one: &Planned| one.summary.kind.parent().map(|of| of.backup.clone());
        let parents: BTreeMap<&BackupId, BackupId> = self
            .backups
            .iter()
            .filter_map(|one| Some((&one.summary.backup, parent(one)?)))
            .collect();
        let goes = |id: &BackupId| {
            let of = self.backups.iter().find(|one| one.summary.backup == *id);
            of.is_some_and(Planned::goes) && !gone.contains(id)
        };
        claimed.into_iter().find_map(|(id, claim)| {
            // What names itself in a circle comes to an end.
            let chain = std::iter::successors(Some(id), |id| parents.get(id));
            let needed = chain.take(self.backups.len()).find(|id| goes(id))?;
            Some(format!("{needed} has to stay: {id} is {claim}"))
        })
    }

    /// Whether there is anything to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backups.iter().all(|one| !one.goes())
            && self.rest.is_empty()
            && self.orphans.iter().all(|orphan| !orphan.goes)
            && self.log.iter().all(|cut| cut.before.is_none())
    }

    /// Why somebody has to say how many backups go; nothing where few do.
    #[must_use]
    pub fn is_much(&self) -> Option<String> {
        let bytes = |all: &mut dyn Iterator<Item = &Planned>| {
            all.fold(0u64, |sum, one| sum.saturating_add(one.bytes))
        };
        let going = self.backups.iter().filter(|one| one.goes()).count();
        let (some, all) = (
            bytes(&mut self.backups.iter().filter(|one| one.goes())),
            bytes(&mut self.backups.iter()),
        );
        if planted("mass-removal-unasked") {
            None
        } else if going > MOST {
            Some(format!("more than {MOST} backups would be removed at once"))
        } else if going * 2 > self.backups.len() {
            Some("more than half of the backups would be removed".to_owned())
        } else if some > all / 2 {
            Some("more than half of the bytes would be removed".to_owned())
        } else {
            None
        }
    }

    /// What stands for what goes: these very manifests, this log, these rests.
    #[must_use]
    pub fn digest(&self) -> String {
        let manifest = |one: &&Planned| -> (BackupId, Digest) {
            (one.summary.backup.clone(), one.summary.manifest_sha256)
        };
        let mut going: Vec<_> = self.backups.iter().filter(|one| one.goes()).collect();
        going.sort_by(|one, other| one.summary.backup.cmp(&other.summary.backup));
        let going: Vec<_> = going.iter().map(manifest).collect();
        let log: Vec<_> =
            self.log.iter().filter_map(|cut| Some((&cut.lineage, cut.before?))).collect();
        let rest: Vec<_> = self.rest.iter().map(|rest| &rest.backup).collect();
        let orphans = self.orphans.iter().filter(|orphan| orphan.goes);
        let orphans: Vec<_> = orphans.map(|orphan| &orphan.backup).collect();
        let all = format!("{} {going:?} {log:?} {rest:?} {orphans:?}", self.source);
        drctl_store::digest(all.as_bytes()).to_string()[..16].to_owned()
    }
}

/// On how many others each of these is based, by what it is based on itself: each is asked once.
fn depths<'a>(parents: &BTreeMap<&'a BackupId, &'a BackupId>) -> HashMap<&'a BackupId, usize> {
    let mut known: HashMap<&BackupId, usize> = HashMap::new();
    for id in parents.keys() {
        let (mut path, mut at) = (Vec::new(), *id);
        // What names itself in a circle is met again, and known by then.
        while !known.contains_key(at) {
            let _ = known.insert(at, 0);
            let Some(parent) = parents.get(at) else { break };
            path.push(at);
            at = parent;
        }
        let mut depth = known.get(at).copied().unwrap_or_default();
        for id in path.into_iter().rev() {
            depth += 1;
            let _ = known.insert(id, depth);
        }
    }
    known
}

/// What the policy says of all that there is. Of a source whose removals are blocked nothing goes.
pub(super) fn decided(policy: &Policy, holdings: Holdings, now: Timestamp) -> PrunePlan {
    let candidates: Vec<Candidate> =
        holdings.backups.iter().map(|backup| candidate(backup, &holdings)).collect();
    let blocked = (!holdings.blocked.is_empty()).then(|| holdings.blocked.join("; "));
    let clusters = holdings.known.as_ref().map(|known| known.archives()).unwrap_or_default();
    let of = retention::Holdings {
        candidates: &candidates,
        clusters: &clusters,
        blocked: blocked.as_deref(),
        now,
    };
    let verdicts = retention::decide(&policy.retention, &policy.timezone, &of);
    let stay: BTreeSet<&BackupId> =
        verdicts.iter().filter(|one| one.stays()).map(|one| &one.backup).collect();
    let log = match &holdings.known {
        Some(known) => known.log_that_stays(|backup| stay.contains(backup)),
        None => Vec::new(),
    };
    let log = log.into_iter().map(|one| cut(one, &holdings)).collect();
    let rest = if blocked.is_some() { Vec::new() } else { holdings.rest };
    let mut orphans = holdings.orphans;
    orphans.iter_mut().for_each(|orphan| orphan.goes &= blocked.is_none());
    let planned = |(summary, Verdict { reasons, .. }): (BackupSummary, Verdict)| {
        let Weight { objects, bytes, .. } =
            holdings.weights.get(&summary.backup).copied().unwrap_or_default();
        Planned { summary, objects, bytes, reasons }
    };
    let backups = holdings.backups.into_iter().zip(verdicts).map(planned).collect();
    let (source, policy) = (holdings.source, policy.name.to_string());
    let (blocked, unattended) = (holdings.blocked, holdings.unattended);
    PrunePlan { source, policy, blocked, unattended, backups, log, rest, orphans }
}

fn candidate(backup: &BackupSummary, holdings: &Holdings) -> Candidate {
    let id = &backup.backup;
    Candidate {
        backup: id.clone(),
        taken: backup.taken(),
        stored: holdings.weights.get(id).and_then(|weight| weight.stored),
        parent: backup.kind.parent().map(|parent| parent.backup.clone()),
        counts: holdings.count.contains(id),
        proven: holdings.proven.contains(id),
        claims: claims(&holdings.in_force, id),
    }
}

/// What somebody said of a backup.
pub(super) fn claims(in_force: &InForce, backup: &BackupId) -> Vec<Claim> {
    let pinned = in_force.pins.get(backup).filter(|_| !planted("pin-ignored"));
    let pinned = pinned.map(|said| Claim::Pinned(said.reason.clone()));
    let held = in_force.holds.get(backup).or(in_force.hold.as_ref());
    pinned.into_iter().chain(held.map(|said| Claim::Held(said.reason.clone()))).collect()
}

/// What of a lineage's log goes.
fn cut(of: LogThatStays, holdings: &Holdings) -> LogCut {
    let LogThatStays { lineage, called, stays } = of;
    let listed = holdings.log.get(&lineage).map(Vec::as_slice).unwrap_or_default();
    let end = listed.iter().map(|piece| piece.end).max();
    let (before, why) = match stays {
        Stays::Whole(why) => (None, why),
        Stays::From(at, why) => (Some(at), why),
        Stays::Nothing => (end, "no base backup that stays leads to it".to_owned()),
    };
    // Of a source whose removals are blocked every base backup stays, but log below the oldest one may be left.
    let before = before.filter(|_| holdings.blocked.is_empty());
    let below = listed.iter().filter(|piece| before.is_some_and(|before| piece.end <= before));
    let (objects, bytes) = below
        .fold((0, 0u64), |(objects, sum), piece| (objects + 1, sum.saturating_add(piece.bytes)));
    let before = before.filter(|_| objects > 0);
    LogCut { lineage, called, before, why, objects, bytes }
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        BackupKind, Coordinates, Dumped, Engine, Header, Increment, Lsn, Parent, RepositoryId,
        Stated, Statement, Timeline, WalSegmentSize,
    };

    use super::*;

    fn id(n: u64) -> BackupId {
        BackupId::new(Timestamp::UNIX_EPOCH, n)
    }

    /// The backup of a number, of so many bytes; based on another one where that is named.
    fn planned(n: u64, parent: Option<u64>, bytes: u64, goes: bool) -> Planned {
        let at = Coordinates {
            system_id: 7,
            segment_size: WalSegmentSize::new(1 << 20).unwrap(),
            timeline: Timeline::FIRST,
            start: Lsn(n),
            stop: Lsn(n + 1),
            stop_timeline: Timeline::FIRST,
            listing_sha256: None,
            log: None,
        };
        let kind = match parent {
            Some(parent) => BackupKind::Incremental(Increment {
                parent: Parent { backup: id(parent), manifest_sha256: Digest([0; 32]) },
                at,
            }),
            None => BackupKind::Logical(Dumped::default()),
        };
        let summary = BackupSummary {
            source: "shop".parse().unwrap(),
            backup: id(n),
            engine: Engine::BaseBackup,
            kind,
            host: "db1".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            plain_bytes: 0,
            sealed_bytes: 0,
            segments: 0,
            suspect: Vec::new(),
            manifest_sha256: Digest([u8::try_from(n).unwrap(); 32]),
            accepted: None,
            signer: String::new(),
            objects: None,
        };
        let reasons = if goes { Vec::new() } else { vec![Reason::Within] };
        Planned { summary, objects: 1, bytes, reasons }
    }

    fn plan(backups: Vec<Planned>) -> PrunePlan {
        let (source, policy) = ("shop".parse().unwrap(), "daily".to_owned());
        let (blocked, log, rest) = (Vec::new(), Vec::new(), Vec::new());
        let unattended = None;
        PrunePlan { source, policy, blocked, unattended, backups, log, rest, orphans: Vec::new() }
    }

    #[test]
    fn what_is_based_on_a_backup_goes_before_it() {
        let of = |all: &[(u64, Option<u64>)]| -> Vec<BackupId> {
            let all = all.iter().map(|(n, parent)| planned(*n, *parent, 1, true)).collect();
            plan(all).going().iter().map(|one| one.summary.backup.clone()).collect()
        };
        assert_eq!(of(&[(3, None), (2, None), (1, None)]), [id(1), id(2), id(3)], "oldest first");
        let chain = [(4, None), (3, Some(2)), (2, Some(1)), (1, None)];
        assert_eq!(of(&chain), [id(3), id(2), id(1), id(4)]);
        // Whatever identifiers say of their order.
        assert_eq!(of(&[(1, Some(2)), (2, Some(3)), (3, None)]), [id(1), id(2), id(3)]);
        assert_eq!(of(&[(2, Some(1)), (1, Some(2))]).len(), 2, "a circle has an end");
    }

    #[test]
    fn what_is_claimed_since_it_was_planned_keeps_what_it_is_based_on() {
        let chain = [(4, None, true), (3, Some(2), false), (2, Some(1), true), (1, None, true)];
        let chain = chain.map(|(n, parent, goes)| planned(n, parent, 1, goes));
        let plan = plan(chain.to_vec());
        let pinned = |n: u64, gone: &[BackupId]| {
            let said = Statement {
                header: Header::new([]),
                repository: RepositoryId::new(7),
                source: "shop".parse().unwrap(),
                n: 1,
                statement: Stated::Pin,
                backup: Some(id(n)),
                reason: "audit".to_owned(),
                without: Vec::new(),
                host: "db1".to_owned(),
                account: "postgres".to_owned(),
                at: Timestamp::UNIX_EPOCH,
            };
            plan.claimed(&InForce::of([&said]), gone)
        };
        assert_eq!(plan.claimed(&InForce::default(), &[]), None);
        assert!(pinned(4, &[]).unwrap().contains("audit"));
        assert!(pinned(3, &[]).unwrap().starts_with(&id(2).to_string()), "it is based on this");
        assert!(pinned(3, &[id(2)]).unwrap().starts_with(&id(1).to_string()));
        assert_eq!(pinned(4, &[id(4)]), None, "nothing of it is left to keep");
        assert_eq!(pinned(9, &[]), None);
    }

    #[test]
    fn more_than_half_or_than_a_hundred_is_much() {
        let of = |goes: u64, stays: u64, bytes: u64| {
            let going = (0..goes).map(|n| planned(n, None, bytes, true));
            let staying = (goes..goes + stays).map(|n| planned(n, None, 10, false));
            plan(going.chain(staying).collect()).is_much()
        };
        assert_eq!(of(2, 2, 10), None);
        assert_eq!(of(0, 4, 10), None);
        assert!(of(3, 2, 10).unwrap().contains("half of the backups"));
        assert!(of(2, 2, 11).unwrap().contains("half of the bytes"));
        assert_eq!(of(100, 100, 10), None);
        assert!(of(101, 110, 10).unwrap().contains("more than 100"));
    }

    #[test]
    fn a_digest_stands_for_what_goes_and_for_nothing_else() {
        let two = || vec![planned(2, None, 1, false), planned(1, None, 1, true)];
        let cut = |before: Option<u64>| LogCut {
            lineage: "tape-3".parse().unwrap(),
            called: String::new(),
            before: before.map(LogAt),
            why: String::new(),
            objects: 1,
            bytes: 1,
        };
        let good = plan(two()).digest();
        let mut heavier = plan(two());
        heavier.backups[1].bytes = 2;
        heavier.log.push(cut(None));
        heavier.backups.insert(0, planned(3, None, 1, false));
        assert_eq!(heavier.digest(), good, "what stays is not asked about");
        let mut both = plan(two());
        both.backups[0].reasons.clear();
        let mut another = plan(two());
        another.backups[1].summary.manifest_sha256 = Digest([9; 32]);
        let (mut log, mut more) = (plan(two()), plan(two()));
        log.log.push(cut(Some(4)));
        more.log.push(cut(Some(5)));
        let mut rest = plan(two());
        rest.rest.push(Rest { backup: id(0), objects: 1, bytes: 1 });
        let orphan =
            |goes| Orphan { backup: id(0), objects: 1, bytes: 1, newest: None, from: None, goes };
        let (mut stays, mut left) = (plan(two()), plan(two()));
        stays.orphans.push(orphan(false));
        assert_eq!(stays.digest(), good);
        left.orphans.push(orphan(true));
        let mut other = plan(two());
        other.source = "blog".parse().unwrap();
        let all = [good, both.digest(), another.digest(), log.digest(), more.digest()];
        let all: BTreeSet<String> =
            all.into_iter().chain([rest.digest(), left.digest(), other.digest()]).collect();
        assert_eq!(all.len(), 8);
    }
}
