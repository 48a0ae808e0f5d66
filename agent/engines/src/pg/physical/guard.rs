//! The cluster's own configuration while a server of ours runs on it: out of the way, and put back.
//! What the source's host could take may keep this host's server from starting, and a second server on
//! these files would not see the one in its sandbox.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Layout;
use super::forced::of_instance;
use super::surroundings::read_plain;
use crate::common::EngineError;

/// What a server reads that is started by hand.
pub(super) const CONFIGURATION: &str = "postgresql.conf";

/// What any server reads, whatever configuration it is given: settings of `ALTER SYSTEM`.
pub(super) const INSTANCE: &str = "postgresql.auto.conf";

/// What stands in the place of the first. A server that was started beside the sandbox would not see the one
/// in it: neither its number nor its shared memory are of this host.
const GUARD: &str = "# drctl recovers this cluster: only drctl may start a server on it now.\n\
                     # Go on with the same `drctl restore` and --resume: that stops it, and puts the\n\
                     # cluster's own configuration back.\n\
                     drctl_recovers_this_cluster_go_on_with_resume = on\n";

/// How what stands in the place of the second begins. `ALTER SYSTEM` leaves no comment.
const MARK: &str = "# drctl recovers this cluster: its own settings are put back afterwards.\n";

/// Where a file is meanwhile: beside the data, where no server in a sandbox reaches it.
fn aside(layout: &Layout, name: &str) -> PathBuf {
    layout.data().with_file_name(format!("{name}.source"))
}

/// A file of the cluster's configuration as it will be when no server of ours runs on it.
pub(super) fn own_text(layout: &Layout, name: &str) -> Option<String> {
    read_plain(&aside(layout, name)).or_else(|| read_plain(&layout.data().join(name)))
}

/// Takes the cluster's configuration out of the way: nobody else starts a server on it, and ours reads
/// what it needs of it and no more.
pub(super) fn guard(layout: &Layout) -> Result<(), EngineError> {
    let instance = own_text(layout, INSTANCE).unwrap_or_default();
    let ours = format!("{MARK}{}", of_instance(&instance));
    // While the second one is away, the first one is.
    let put = || {
        replace(layout, CONFIGURATION, GUARD)?;
        replace(layout, INSTANCE, &ours)?;
        sync(layout)
    };
    put().map_err(EngineError::io(format!("keep others from {}", layout.data().display())))
}

/// Moves a file aside, if it is there, and writes another one in its place.
fn replace(layout: &Layout, name: &str, text: &str) -> io::Result<()> {
    let place = layout.data().join(name);
    match fs::rename(&place, aside(layout, name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(&place);
    file?.write_all(text.as_bytes())
}

/// Gives the cluster its configuration back, where it was taken.
pub(super) fn unguard(layout: &Layout) -> Result<(), EngineError> {
    let failed = || EngineError::io(format!("put back {}", layout.data().display()));
    let is_away = |name: &str| aside(layout, name).symlink_metadata().is_ok();
    if !is_guarded(layout) {
        return is_own(layout);
    }
    if is_away(INSTANCE) {
        keep_changed(layout).map_err(failed())?;
    }
    for name in [INSTANCE, CONFIGURATION].into_iter().filter(|name| is_away(name)) {
        fs::rename(aside(layout, name), layout.data().join(name)).map_err(failed())?;
    }
    sync(layout).map_err(failed())?;
    is_own(layout)
}

/// An error where what stands in the place of a file of the cluster is still there, and the file itself
/// is gone: no server of its own starts on it, or one that starts lacks its settings.
fn is_own(layout: &Layout) -> Result<(), EngineError> {
    for (name, mark) in [(CONFIGURATION, GUARD), (INSTANCE, MARK)] {
        let place = layout.data().join(name);
        if read_plain(&place).is_some_and(|text| text.starts_with(mark)) {
            let message = format!(
                "{} is gone, which held the cluster's own settings: what stands in its place, {}, is \
                 drctl's. Nothing else is wrong with the cluster. Put the file back, or write the \
                 source's {name} to {}, and go on with --resume",
                aside(layout, name).display(),
                place.display(),
                place.display()
            );
            return Err(EngineError::Config(message));
        }
    }
    Ok(())
}

/// Whether the cluster's configuration is out of the way: a server of ours runs on it, or did when its
/// drctl was killed.
#[must_use]
pub fn is_guarded(layout: &Layout) -> bool {
    [CONFIGURATION, INSTANCE].into_iter().any(|name| aside(layout, name).symlink_metadata().is_ok())
}

/// Somebody may have used `ALTER SYSTEM` in a server that was left open: that is kept beside.
fn keep_changed(layout: &Layout) -> io::Result<()> {
    let place = layout.data().join(INSTANCE);
    if read_plain(&place).is_none_or(|text| text.is_empty() || text.starts_with(MARK)) {
        return Ok(());
    }
    let kept = layout.data().with_file_name(format!("{INSTANCE}.changed"));
    tracing::warn!(
        "what ALTER SYSTEM set in the server of the recovery does not stay in the cluster: it is in {}",
        kept.display()
    );
    fs::rename(place, kept)
}

/// Both directories of a change, on the disk.
fn sync(layout: &Layout) -> io::Result<()> {
    let data = layout.data();
    let parent = data.parent().unwrap_or(Path::new("/"));
    [parent, &data].into_iter().try_for_each(|at| File::open(at)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "lc_time = 'nowhere'\nrecovery_target_lsn = '0/5'\n";

    /// A cluster with a configuration of its own.
    fn cluster() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        fs::create_dir(layout.data()).unwrap();
        fs::write(layout.data().join(CONFIGURATION), "work_mem = '5MB'\n").unwrap();
        fs::write(layout.data().join(INSTANCE), OWN).unwrap();
        (folder, layout)
    }

    fn text(layout: &Layout, name: &str) -> Option<String> {
        read_plain(&layout.data().join(name))
    }

    #[track_caller]
    fn is_its_own(layout: &Layout) {
        assert_eq!(text(layout, CONFIGURATION).as_deref(), Some("work_mem = '5MB'\n"));
        assert_eq!(text(layout, INSTANCE).as_deref(), Some(OWN));
        for name in [CONFIGURATION, INSTANCE] {
            assert!(!aside(layout, name).exists(), "{name}");
        }
    }

    #[test]
    fn a_guarded_cluster_gets_its_configuration_back() {
        let (_folder, layout) = cluster();
        guard(&layout).unwrap();
        assert_eq!(text(&layout, CONFIGURATION).as_deref(), Some(GUARD));
        let instance = text(&layout, INSTANCE).unwrap();
        assert!(!instance.contains("lc_time"), "{instance}");
        assert!(instance.contains("recovery_target_lsn = '0/5'\n"), "{instance}");
        assert_eq!(own_text(&layout, INSTANCE).as_deref(), Some(OWN));
        for _ in 0..2 {
            unguard(&layout).unwrap();
            is_its_own(&layout);
        }
        let conf = layout.data().join(CONFIGURATION);
        std::os::unix::fs::symlink(&conf, layout.data().join("link")).unwrap();
        assert_eq!(read_plain(&layout.data().join("link")), None);
    }

    /// Whatever step a killed drctl came to.
    #[test]
    fn a_cluster_that_was_half_guarded_gets_its_configuration_back() {
        for steps in 0..4 {
            let (_folder, layout) = cluster();
            let away = |name: &str| {
                fs::rename(layout.data().join(name), aside(&layout, name)).unwrap();
            };
            if steps > 0 {
                away(CONFIGURATION);
            }
            if steps > 1 {
                fs::write(layout.data().join(CONFIGURATION), "# dr").unwrap();
                away(INSTANCE);
            }
            if steps > 2 {
                fs::write(layout.data().join(INSTANCE), "").unwrap();
            }
            unguard(&layout).unwrap();
            is_its_own(&layout);
        }
        // Put back in part.
        let (_folder, layout) = cluster();
        guard(&layout).unwrap();
        fs::rename(aside(&layout, INSTANCE), layout.data().join(INSTANCE)).unwrap();
        unguard(&layout).unwrap();
        is_its_own(&layout);
    }

    #[test]
    fn a_cluster_whose_configuration_is_gone_is_told() {
        for name in [CONFIGURATION, INSTANCE] {
            let (_folder, layout) = cluster();
            guard(&layout).unwrap();
            fs::remove_file(aside(&layout, name)).unwrap();
            for _ in 0..2 {
                let said = unguard(&layout).unwrap_err().to_string();
                assert!(said.contains(&format!("{name}.source is gone")), "{said}");
            }
            fs::write(layout.data().join(name), "work_mem = '5MB'\n").unwrap();
            unguard(&layout).unwrap();
        }
    }

    #[test]
    fn what_alter_system_set_meanwhile_is_kept_beside() {
        let (folder, layout) = cluster();
        guard(&layout).unwrap();
        fs::write(layout.data().join(INSTANCE), "work_mem = '9MB'\n").unwrap();
        unguard(&layout).unwrap();
        is_its_own(&layout);
        let kept = folder.path().join("postgresql.auto.conf.changed");
        assert_eq!(fs::read_to_string(kept).unwrap(), "work_mem = '9MB'\n");
    }

    #[test]
    fn a_cluster_without_settings_of_its_own_stays_so() {
        let (_folder, layout) = cluster();
        fs::remove_file(layout.data().join(INSTANCE)).unwrap();
        guard(&layout).unwrap();
        assert_eq!(text(&layout, INSTANCE), None);
        unguard(&layout).unwrap();
        assert_eq!(text(&layout, INSTANCE), None);
        assert_eq!(text(&layout, CONFIGURATION).as_deref(), Some("work_mem = '5MB'\n"));
    }
}
