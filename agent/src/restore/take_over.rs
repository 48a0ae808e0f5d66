//! A restored cluster takes the place of the source's server that is gone: looked at, planned, and done
//! only as planned.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::take_over::{
    Changes, Control, Running, TakeOver, changes, control, make, running, servers_beside, unmake,
    value_of, version_of,
};
use drctl_engines::pg::physical::{Layout, is_guarded, may_run, no_links, orphan};
use drctl_engines::pg::{PgServer, cluster_place, server_program};
use drctl_model::SourceId;
use drctl_policies::recovery::{Want, timeline_view};
use drctl_store::digest as digest_of;

use super::known::known;
use crate::engine::{self, Replaced};
use crate::host::{AgentError, Setup};
use crate::restore::cluster::{RecoveryState, Step, is_own};

/// How long a server may take to say which cluster it has.
const ANSWER: Duration = Duration::from_secs(20);

/// What is to take whose place.
pub struct TakeOverRequest<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// The source.
    pub source: &'a str,
    /// The directory of the restore.
    pub directory: PathBuf,
    /// The server's configuration, where it lies outside the data directory.
    pub configuration: Option<PathBuf>,
    /// Whether its log is streamed, and not archived by a command.
    pub streamed: bool,
}

/// All that would be done, and of what.
pub struct TakeOverPlan {
    /// The source.
    pub source: SourceId,
    /// The data directory.
    pub data: PathBuf,
    /// What its control file says.
    pub control: Control,
    /// What changes.
    pub changes: Changes,
    /// What stays as it is and should be known.
    pub notes: Vec<String>,
    /// What stands for all of it: `--yes=DIGEST` does this and nothing else.
    pub digest: String,
    archive_command: Option<String>,
    configuration: Option<PathBuf>,
    bin_dir: PathBuf,
    state: Option<RecoveryState>,
}

/// Where the server listens once it is started, as its configuration says.
pub struct Address {
    /// The first directory of its sockets; where it has none, an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Finds out what has to be done so that a restored cluster is the source's server. Changes nothing.
///
/// # Errors
/// [`AgentError::Target`] where it must not be: the old server lives, the cluster is in use, or is none of
/// the source, or is not its own yet.
pub async fn prepare_take_over(request: &TakeOverRequest<'_>) -> Result<TakeOverPlan> {
    let (setup, layout) = (request.setup, Layout::new(&request.directory));
    let (id, source) = setup.source(request.source)?;
    may_run()?;
    let data = layout.data();
    if !data.exists() {
        let text = format!(
            "{} is no directory into which `drctl restore --to-directory` has brought a cluster: there \
             is no {}",
            request.directory.display(),
            data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    owned(&data)?;
    let state = RecoveryState::of(&request.directory)?;
    fit(id, &layout, state.as_ref())?;
    let server = setup.server(source)?;
    let version = version_of(&layout).unwrap_or_default();
    let program = server_program(server.bin_dir.as_deref(), &version).await?;
    let bin_dir = program.parent().context("find the server's programs")?.to_owned();
    let control = control(&bin_dir, &data)?;
    if !control.shut_down {
        let text = format!(
            "the server of the cluster in {} was not shut down: start it once with pg_ctl and stop \
             it",
            data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    no_links(&layout)?;
    let mut notes = beside(&control)?;
    notes.extend(answers(&server, &control).await?);
    let TakeOverRequest { source: name, streamed, .. } = *request;
    let replaced = Replaced { setup, source: name, data: &data, streamed };
    let archive_command = engine::of(source).archive_command(&replaced)?;
    let configuration = request.configuration.as_deref().map(std::path::absolute).transpose()?;
    let take_over = TakeOver {
        layout: &layout,
        control: &control,
        configuration: configuration.as_deref(),
        archive_command: archive_command.as_deref(),
    };
    let changes = changes(&take_over)?;
    if let Some(file) = &configuration {
        owned(file)?;
    }
    let news = state.as_ref().is_some_and(|state| state.step() == Step::Promoted);
    belongs(setup, id, &control, news).await?;
    notes.extend(tablespaces(&data));
    notes.extend(changes.notes.iter().cloned());
    let command = archive_command.as_deref().unwrap_or_default();
    let running = running(&bin_dir, &data, configuration.as_deref(), (&changes, command))?;
    notes.extend(running.says.iter().cloned());
    let digest = digest(&changes, &running);
    Ok(TakeOverPlan {
        source: id.clone(),
        data,
        control,
        changes,
        notes,
        digest,
        archive_command,
        configuration,
        bin_dir,
        state,
    })
}

/// Does what was planned, and has the server's own program prove that it counts.
///
/// # Errors
/// [`EngineError`](drctl_engines::EngineError): what the program says, or the file system's. What
/// was changed is changed back then.
pub fn finish_take_over(prepared: &mut TakeOverPlan) -> Result<Address> {
    make(&prepared.changes, &prepared.data)?;
    let address = proven(prepared).inspect_err(|_| {
        if let Err(error) = unmake(&prepared.changes) {
            tracing::error!("the changes could not be undone: {error}");
        }
    })?;
    if let Some(state) = &mut prepared.state {
        state.reach(Step::TookOver)?;
    }
    Ok(address)
}

fn proven(prepared: &TakeOverPlan) -> Result<Address> {
    // Debian's configuration tells where the data are; elsewhere it lies with them.
    let configuration = prepared.configuration.as_deref();
    let at = configuration.and_then(Path::parent).unwrap_or(&prepared.data);
    let value = |name: &str| -> Result<String> {
        Ok(value_of(&prepared.bin_dir, at, configuration, name)?)
    };
    let wanted = prepared.archive_command.clone().unwrap_or_default();
    let data = prepared.data.display().to_string();
    for (name, wanted) in [("data_directory", &data), ("archive_command", &wanted)] {
        let counts = value(name)?;
        // It shows an empty command as nothing, or in words while archiving is off.
        if counts != *wanted && !(wanted.is_empty() && counts == "(disabled)") {
            let text = format!(
                "the configuration says {name} = {counts}, and not {wanted}: another of its files \
                 overrides it. Nothing was changed"
            );
            return Err(AgentError::Target(text).into());
        }
    }
    let sockets = value("unix_socket_directories")?;
    let first = sockets.split(',').next().unwrap_or_default().trim();
    let host = if first.is_empty() { "localhost" } else { first };
    Ok(Address { host: host.to_owned(), port: value("port")?.parse().unwrap_or_default() })
}

/// Only the account that a file belongs to may change it, and a server starts on no others.
fn owned(path: &Path) -> Result<()> {
    let meta = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        let text = format!(
            "{} belongs to another account (uid {}): run this as that one, or have root give it to \
             the server's account with chown",
            path.display(),
            meta.uid()
        );
        return Err(AgentError::Target(text).into());
    }
    Ok(())
}

/// Whether the cluster is there, is its own, and nobody works on it.
fn fit(source: &SourceId, layout: &Layout, state: Option<&RecoveryState>) -> Result<()> {
    let data = layout.data();
    let refused = |text: String| Err(AgentError::Target(text).into());
    if let Some(server) = orphan(layout) {
        return refused(format!(
            "a server runs in {} (process {}): stop it first, {}",
            data.display(),
            server.id(),
            match server.is_ours() {
                true => "by the `drctl restore` that left it open, with --resume and --promote"
                    .to_owned(),
                false => format!("pg_ctl -D {} stop", data.display()),
            }
        ));
    }
    if is_guarded(layout) {
        return refused(format!(
            "the cluster in {} has not got its own configuration back: the `drctl restore` that broke \
             off there, with --resume and --promote, gives it back",
            data.display()
        ));
    }
    if let Some(state) = state {
        if state.identity().source != source.as_str() {
            let text = "that is a recovery of another source";
            return refused(format!("{}: {text}, {}", data.display(), state.identity().source));
        }
        if state.step() < Step::Promoted || state.released().is_some() {
            return refused(format!(
                "the cluster in {} is not one of its own yet: the `drctl restore` that made it, with \
                 --resume and --promote, makes it one",
                data.display()
            ));
        }
    }
    if !is_own(&data) {
        return refused(format!(
            "the cluster in {} has still to be recovered (it has a backup_label, a recovery.signal \
             or a standby.signal): recover it with `drctl restore {source} --to-end --promote`, or \
             start it once with pg_ctl and stop it",
            data.display()
        ));
    }
    Ok(())
}

/// The old server may live on this host.
fn beside(control: &Control) -> Result<Vec<String>> {
    let found = servers_beside(control.system_id);
    if let Some(server) = found.same.first() {
        let text = format!(
            "a server of this very cluster runs on this host, in {} (process {}): two servers under \
             one source would write two histories. Stop it for good first: pg_ctl -D {} stop",
            server.data.display(),
            server.id,
            server.data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    let unknown = (found.unknown > 0).then(|| {
        format!(
            "{} of other accounts could not be checked on this host: make sure that none of them \
             is the old one",
            match found.unknown {
                1 => "1 server".to_owned(),
                count => format!("{count} servers"),
            }
        )
    });
    Ok(unknown.into_iter().collect())
}

/// Or where the source says that its server is.
async fn answers(server: &PgServer, control: &Control) -> Result<Option<String>> {
    let asked = tokio::time::timeout(ANSWER, cluster_place(server, "drctl/take-over")).await;
    match asked {
        Ok(Ok(place)) if place.system_id == control.system_id => {
            let text = format!(
                "the source's server at {} still answers, and has this very cluster: stop it for \
                 good first",
                server.target()
            );
            Err(AgentError::Target(text).into())
        }
        Ok(Ok(place)) => Ok(Some(format!(
            "at {} another cluster answers ({}): correct host and port of the source",
            server.target(),
            place.system_id
        ))),
        Ok(Err(_)) | Err(_) => Ok(Some(format!(
            "nothing answers at {} as the source's server: be sure that it is gone, and does not \
             come back",
            server.target()
        ))),
    }
}

/// Whether it is a cluster of the source, and the bucket has no log of its timeline that it has not
/// written: where it `is_new` it has written none.
async fn belongs(setup: &Setup, id: &SourceId, control: &Control, is_new: bool) -> Result<()> {
    let repository = setup.repository().await?;
    let cache = setup.log_cache(&repository).await;
    let wanted = (Want::Last, Some(control.system_id));
    let known = known(setup, &repository, id, cache.as_ref(), wanted).await;
    let known = known.context("look whether the source has had this cluster")?;
    let views = timeline_view(&known.archive);
    let view = views.iter().find(|view| view.timeline == control.timeline);
    if is_new && view.is_some_and(|view| !view.spans.is_empty()) {
        let text = format!(
            "the bucket has WAL of timeline {} already, and this cluster has written none of it: \
             another restored one has taken the source's place. Recover again, from the newest \
             timeline",
            control.timeline
        );
        return Err(AgentError::Target(text).into());
    }
    Ok(())
}

fn tablespaces(data: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data.join("pg_tblspc")) else { return Vec::new() };
    let mut all: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let to = fs::read_link(entry.path()).ok()?;
            Some(format!(
                "the tablespace {} lies in {}, and stays there",
                entry.file_name().display(),
                to.display()
            ))
        })
        .collect();
    all.sort();
    all
}

/// What stands for all that was shown: what changes, and what runs and who is let in afterwards.
fn digest(changes: &Changes, running: &Running) -> String {
    let mut text = running.text.clone();
    for edit in &changes.edits {
        text += &format!("{}\n{}\n", edit.file.display(), digest_of(&edit.new));
    }
    text += &changes.ready.join("\n");
    digest_of(text.as_bytes()).to_string()[..16].to_owned()
}
