//! What a backup holds beside what it copies: files that lay elsewhere on the source's host. They are
//! written into a directory of their own, and never where they lay.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::Below;
use drctl_model::{FileContent, Outside, shown};

use super::{Destination, RestoreRequest};

/// Their directory below that of the restore.
pub const FOLDER: &str = "configuration";

/// What is said of a backup that tells nothing of it.
pub(crate) const NOT_KNOWN: &str = "whether the server read files from outside of its data directory, \
                                    such as its configuration, is not known: this backup does not \
                                    record it";

/// The most names that stand in one sentence.
const NAMED: usize = 20;

/// What is told before a whole cluster or all databases are restored.
pub(crate) fn told(outside: Option<&Outside>, request: &RestoreRequest) -> Vec<String> {
    let renamed = matches!(&request.destination, Destination::Server { rename: Some(_), .. });
    if renamed || !request.databases.is_empty() {
        return Vec::new();
    }
    match &request.destination {
        Destination::Cluster(directory) => told_of_cluster(outside, directory),
        Destination::Files(directory) => {
            outside.map_or_else(Vec::new, |_| told_of_cluster(outside, directory))
        }
        Destination::Server { .. } => {
            let Some(outside) = outside else { return Vec::new() };
            let held = outside.held().count();
            let stays = format!(
                "the server's configuration ({held} files) is in the backup and stays there: \
                 --to-files DIR writes it into DIR/{FOLDER}"
            );
            let stays = (held > 0).then_some(stays);
            stays.into_iter().chain(outside.notes()).collect()
        }
        Destination::Pipe(_) => Vec::new(),
    }
}

/// The same before a cluster is brought into a directory.
pub(crate) fn told_of_cluster(outside: Option<&Outside>, directory: &Path) -> Vec<String> {
    let Some(outside) = outside else { return vec![NOT_KNOWN.to_owned()] };
    let held = outside.held().count();
    let comes = format!(
        "the backup holds {held} configuration files of the server: they are written into {}, and the \
         restored server does not read them",
        directory.join(FOLDER).display()
    );
    (held > 0).then_some(comes).into_iter().chain(outside.notes()).collect()
}

/// Writes the files below a directory, as what had their names before; gives what an operator should
/// know.
///
/// # Errors
/// The file system's; a file's content that is none.
pub(crate) fn bring(directory: &Path, outside: Option<&Outside>) -> Result<Vec<String>> {
    let Some(outside) = outside else { return Ok(vec![NOT_KNOWN.to_owned()]) };
    let mut names = Vec::new();
    let top = directory.join(FOLDER);
    for (item, content) in outside.held() {
        let Some(path) = item.path.as_deref().and_then(below) else { continue };
        write(directory, &path, content)
            .with_context(|| format!("write {}", top.join(&path).display()))?;
        names.push(shown(&path.display().to_string(), 200));
    }
    let more = names.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (count, top) = (names.len(), top.display());
    names.truncate(NAMED);
    let text = format!(
        "{count} configuration files of the server were written into {top}: {}{rest}. The restored \
         server does not read them: look at them, and put them where they belong",
        names.join(", ")
    );
    Ok((count > 0).then_some(text).into_iter().chain(outside.notes()).collect())
}

fn write(directory: &Path, path: &Path, content: &FileContent) -> Result<()> {
    let bytes = content.bytes().context("its content in the backup is no file's")?;
    let name = path.file_name().context("it has no name")?;
    // Joined with nothing it would end with a slash.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.map_or_else(|| FOLDER.into(), |parent| Path::new(FOLDER).join(parent));
    let folder = Below::make(directory)?.directory(&folder)?;
    Ok(folder.replace(".part", Path::new(name), &bytes)?)
}

/// A path of the source's host, below a directory; nothing where no name is in it.
fn below(path: &str) -> Option<PathBuf> {
    let names = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let path: PathBuf = names.collect();
    (!path.as_os_str().is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use drctl_model::OutsideItem;

    use super::*;

    fn outside(paths: &[&str]) -> Outside {
        let held =
            |path: &&str| OutsideItem::held("x", (*path).to_owned(), b"caf\xe9 = 1\n".to_vec());
        Outside { items: paths.iter().map(held).collect(), unknown: Vec::new() }
    }

    #[test]
    fn files_come_below_the_directory_whatever_they_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("restored");
        let all = outside(&["/etc/a/b.conf", "/etc/../../c", "d", "/", "..", ""]);
        for _ in 0..2 {
            let notes = bring(&to, Some(&all)).unwrap();
            assert!(
                notes[0].starts_with("3 configuration files") && notes[0].contains("etc/a/b.conf"),
                "{notes:?}"
            );
        }
        for name in ["etc/a/b.conf", "etc/c", "d"] {
            assert_eq!(fs::read(to.join(FOLDER).join(name)).unwrap(), b"caf\xe9 = 1\n", "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(to.join(FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn no_link_leads_them_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (to, other) = (folder.path().join("restored"), folder.path().join("other"));
        fs::create_dir_all(&to).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&other, to.join(FOLDER)).unwrap();
        assert!(bring(&to, Some(&outside(&["/a"]))).is_err());
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }

    #[test]
    fn a_backup_that_says_nothing_is_told_from_one_of_which_nothing_lies_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bring(folder.path(), None).unwrap(), [NOT_KNOWN]);
        assert_eq!(bring(folder.path(), Some(&Outside::default())).unwrap(), [""; 0]);
        assert_eq!(told_of_cluster(None, folder.path()), [NOT_KNOWN]);
        assert_eq!(told_of_cluster(Some(&Outside::default()), folder.path()), [""; 0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
