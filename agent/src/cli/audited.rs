//! What of the command line is put on record in the audit log: all that changes something, that takes a
//! decision of the program's away from it, or that opens backups.

use anyhow::Result;

use super::args::{
    CatalogVerb, CloneArgs, CloneVerb, DrillVerb, KeysVerb, RestoreArgs, StanzaVerb, StatementVerb,
    Verb,
};
use super::state::known_catalog;
use crate::audit::{Act, Logged, note_key_use, ship_soon};
use crate::daemon::is_running;
use crate::host::{Exit, Setup};

/// Whether a verb that may take long is on record.
pub(super) fn is_on_record(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Backup { .. }
            | Verb::Restore(_)
            | Verb::Verify(_)
            | Verb::Prune(_)
            | Verb::Drill { verb: DrillVerb::Run(_) }
            | Verb::Clone(_)
    )
}

/// What a verb does that is on record as a whole; nothing for one that changes nothing, or that is put on
/// record where it is done.
fn act(verb: &Verb) -> Option<Act> {
    match verb {
        Verb::Accept { backup } => Some(Act::new("accept").object(backup)),
        Verb::Say(said) => said_act(said),
        Verb::TakeOver(args) => {
            let act = Act::new("take-over").of(&args.source);
            let act = act.object(args.directory.display().to_string());
            args.yes.as_ref().map(|digest| act.with("yes", digest))
        }
        Verb::Stanza { verb } => stanza_act(verb),
        Verb::Drill { verb: DrillVerb::Run(args) } => {
            Some(Act::new("drill run").of(args.sources.join(" ")))
        }
        Verb::Clone(args) => clone_act(args),
        Verb::Catalog { verb: CatalogVerb::Rebuild } => Some(Act::new("catalog rebuild")),
        _ => None,
    }
}

fn clone_act(args: &CloneArgs) -> Option<Act> {
    match (&args.verb, &args.source) {
        // The process that keeps it puts it on record.
        (None, Some(source)) if !args.detach => {
            let mut act = Act::new("clone").of(source);
            if let Some(at) = &args.to_time {
                act.put("to_time", at);
            }
            act.put("masked", if args.mask.is_some() { "true" } else { "false" });
            act.put("exposed", if args.expose.is_some() { "true" } else { "false" });
            Some(act)
        }
        (Some(CloneVerb::Destroy { clone, .. }), _) => {
            Some(Act::new("clone destroy").object(clone))
        }
        (Some(CloneVerb::Extend { clone, .. }), _) => Some(Act::new("clone extend").object(clone)),
        _ => None,
    }
}

fn said_act(said: &StatementVerb) -> Option<Act> {
    let (verb, what) = match said {
        StatementVerb::Pin(args) => ("pin", &args.backup),
        StatementVerb::Unpin(args) => ("unpin", &args.backup),
        StatementVerb::Hold(args) => ("hold", &args.what),
        StatementVerb::Release(args) => ("release", &args.what),
        StatementVerb::Freeze(args) => ("freeze", &args.source),
        StatementVerb::Unfreeze(args) => {
            let act = Act::new("unfreeze").of(&args.source);
            return Some(match &args.without {
                Some(without) => act.with("without", without),
                None => act,
            });
        }
        StatementVerb::Holds { .. } => return None,
    };
    Some(match said {
        StatementVerb::Freeze(_) => Act::new(verb).of(what),
        _ => Act::new(verb).object(what),
    })
}

/// The same with the source of the backup that it is about, where that is named or this host's catalog
/// knows it.
async fn of_its_source(setup: &Setup, verb: &Verb, act: Act) -> Act {
    let named = match verb {
        Verb::Accept { backup } => backup,
        Verb::Say(StatementVerb::Pin(args) | StatementVerb::Unpin(args)) => &args.backup,
        Verb::Say(StatementVerb::Hold(args) | StatementVerb::Release(args)) => &args.what,
        _ => return act,
    };
    if let Some((source, _)) = named.split_once('/') {
        return act.of(source);
    }
    if setup.configured(named).is_some() {
        return act.of(named);
    }
    let Ok(catalog) = known_catalog(setup).await else { return act };
    let backups = catalog.backups(None).await.unwrap_or_default();
    let mut fit = backups.iter().filter(|one| one.backup.as_str().starts_with(named.as_str()));
    match (fit.next(), fit.next()) {
        (Some(one), None) => act.of(one.source.as_str()),
        _ => act,
    }
}

fn stanza_act(verb: &StanzaVerb) -> Option<Act> {
    let (verb, source) = match verb {
        StanzaVerb::Config { print: true, .. } | StanzaVerb::Check { .. } => return None,
        StanzaVerb::Config { source, .. } => ("stanza config", source),
        StanzaVerb::Create { source } => ("stanza create", source),
        StanzaVerb::Upgrade { source } => ("stanza upgrade", source),
        StanzaVerb::Adopt { source } => ("stanza adopt", source),
    };
    Some(Act::new(verb).of(source))
}

/// The verbs that open backups where an identity is at hand, and the source that they are of.
fn opens(verb: &Verb) -> Option<(&'static str, Option<&str>)> {
    match verb {
        Verb::Show(_) => Some(("show", None)),
        Verb::Verify(_) => Some(("verify", None)),
        Verb::When(args) => Some(("when", Some(&args.source))),
        Verb::Doctor { source, .. } => Some(("doctor", source.as_deref())),
        Verb::Keys { verb: KeysVerb::Test { .. } } => Some(("keys test", None)),
        Verb::Restore(args) if args.plan => Some(("restore plan", Some(&args.source))),
        _ => None,
    }
}

/// Does what a verb asks for, on record where it has to be.
pub(super) async fn audited(
    verb: &Verb,
    setup: &Setup,
    work: impl Future<Output = Result<Exit>>,
) -> Result<Exit> {
    let logged = match act(verb) {
        Some(act) => Some(Logged::begin(setup, of_its_source(setup, verb, act).await)),
        None => None,
    };
    let done = work.await;
    if let Some(logged) = logged {
        logged.end(&done, |exit, act| act.put("exit", &exit.code().to_string()));
    }
    if let Some((verb, source)) = opens(verb) {
        note_key_use(setup, verb, source);
    }
    // The agent does it where one runs; what has failed may have failed by the bucket.
    let writes = match verb {
        Verb::Backup { .. } => true,
        Verb::Prune(args) => args.yes.is_some(),
        _ => false,
    };
    if writes && done.is_ok() && is_running(setup) != Some(true) {
        ship_soon(setup).await;
    }
    done
}

/// A restore, with all by which somebody overrides what the program would do. Names of databases and tables
/// are told to nobody without a key.
pub(super) fn restore_act(args: &RestoreArgs) -> Act {
    let mut act = Act::new(if args.drill { "drill" } else { "restore" }).of(&args.source);
    if let Some(backup) = &args.backup {
        act = act.object(backup);
    }
    let to = match (&args.to_files, &args.to_directory, &args.to_host) {
        (Some(place), ..) => format!("files {}", place.display()),
        (_, Some(place), _) => format!("directory {}", place.display()),
        (.., Some(host)) => format!("server {host} port {}", args.to_port),
        _ if args.to_stdout => "standard output".to_owned(),
        _ => "the source's server".to_owned(),
    };
    act.put("to", &to);
    let xid = |xid: &Option<u32>| xid.map(|xid| xid.to_string());
    let target = [
        ("to_time", args.to_time.clone()),
        ("to_lsn", args.to_lsn.clone()),
        ("to_xid", xid(&args.to_xid)),
        ("before_xid", xid(&args.before_xid)),
        ("yes", args.yes.clone()),
        ("trust_code", args.trust_code.clone()),
    ];
    for (what, value) in target {
        if let Some(value) = value {
            act.put(what, &value);
        }
    }
    let flags = [
        ("--accept-loss", args.accept_loss),
        ("--despite-missing", args.despite_missing),
        ("--without-sandbox", args.without_sandbox),
        ("--promote", args.promote),
        ("--open", args.open),
        ("--resume", args.resume),
        ("--missing", args.missing),
        ("--to-name", args.to_name.is_some()),
        ("--trust-code", args.trust_code.is_some()),
        ("--extract", !args.extract.is_empty()),
        ("--database", !args.databases.is_empty()),
        ("--as", args.rename.is_some()),
        ("--preload", !args.preload.is_empty()),
    ];
    let given: Vec<&str> =
        flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    if !given.is_empty() {
        act.put("options", &given.join(" "));
    }
    act
}
