//! Clusters whose backups pgBackRest makes and keeps in a repository of its own.

mod ahead;
mod archive;
mod attempt;
mod choose;
mod conf;
mod doctor;
mod fetch;
mod histories;
mod place;
mod read;
mod record;
mod relation_changes;
mod replay_requirements;
#[cfg(test)]
mod sample;
mod source_engine;
pub mod stanza;
mod stanza_archive;
mod stanza_view;
mod sync;
mod truth;
mod verify;

use anyhow::Result;
use drctl_engines::backrest::BackRest;
use drctl_engines::{Helper, Secret};
use drctl_policies::{Engine, Pgbackrest, Source};

pub(crate) use ahead::fetch_ahead;
pub(crate) use fetch::{fetch, note_segments};
pub(crate) use source_engine::Stanza;
pub(crate) use stanza_archive::StanzaArchive;
pub(crate) use stanza_view::{StanzaView, only_there};
pub use sync::Synced;
pub(crate) use sync::{expired, mark_anew, mark_now, mark_seen};
pub(crate) use truth::incident;

use crate::host::{AgentError, Setup, private, read_optional};

/// The keys of a source that pgBackRest backs up.
///
/// # Errors
/// [`AgentError::Usage`] for a source of another engine.
pub(crate) fn settings<'a>(name: &str, source: &'a Source) -> Result<&'a Pgbackrest> {
    match &source.engine {
        Engine::Pgbackrest(settings) => Ok(settings),
        _ => {
            let text = format!("`{name}` has no stanza: it is for engine = \"pgbackrest\"");
            Err(AgentError::Usage(text).into())
        }
    }
}

/// Refuses what would have pgBackRest write as root: the server's account could not use its files
/// afterwards, and WAL would not be archived any more. A helper never runs it as root.
///
/// # Errors
/// [`AgentError::Usage`] as root.
pub(crate) fn not_as_root(settings: &Pgbackrest) -> Result<()> {
    if settings.run_as.is_some() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let text = "drctl runs as root, and pgBackRest would leave files behind that the server's \
                account cannot use: run it as that account, often postgres";
    Err(AgentError::Usage(text.to_owned()).into())
}

/// pgBackRest, for a source: run here, or by the helper of an account.
///
/// # Errors
/// A passphrase that cannot be had; [`AgentError::Changeable`] for a configuration file that names programs
/// and that another account can change.
pub(crate) fn engine(setup: &Setup, settings: &Pgbackrest) -> Result<BackRest> {
    if let Some(config) = &settings.config {
        private::believed(config, private::author(config))?;
    }
    let pass = read_optional("the source's cipher_pass", settings.cipher_pass.as_ref())?;
    let mut engine = BackRest::new(settings.stanza.clone());
    engine.repo = settings.repo;
    engine.config.clone_from(&settings.config);
    engine.cipher_pass = pass.map(Secret::new);
    engine.require_peer.clone_from(&settings.server.require_peer);
    engine.silence = settings.server.silence;
    let helper = |account: &String| Helper::of(account, &setup.config.paths.job_dir);
    engine.helper = settings.run_as.as_ref().map(helper);
    if let Some(bin) = &settings.bin {
        engine.program.clone_from(bin);
    }
    Ok(engine)
}

/// How pgBackRest is run for a source; nothing for one of another engine, or one that is not
/// configured here.
///
/// # Errors
/// As [`engine`].
pub(crate) fn engine_of(setup: &Setup, source: &str) -> Result<Option<BackRest>> {
    match setup.configured(source).map(|(_, source)| &source.engine) {
        Some(Engine::Pgbackrest(settings)) => engine(setup, settings).map(Some),
        _ => Ok(None),
    }
}
