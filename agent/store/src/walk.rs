//! What lies in a directory that is a store, listed by ourselves: neither what a killed writer left
//! nor a name that no key has ends a listing.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{Extensions, ListResult, ObjectMeta, Result};
use walkdir::WalkDir;

use crate::layout;
use crate::rooted::failed;

/// How many entries are read at a time, away from the thread that waits for them.
const AT_ONCE: usize = 1024;

/// A file in a directory that is no object, and that nothing reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its path below the repository, as well as it can be shown.
    pub name: String,
    /// Whether a writer left it that did not come to its end; else no key has such a name.
    pub unfinished: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written to.
    pub modified: SystemTime,
    path: PathBuf,
    owner: u32,
}

/// A listing under way.
type Listing = Box<dyn Iterator<Item = Result<ObjectMeta>> + Send>;

enum Found {
    Object(ObjectMeta),
    Stray(Stray),
}

/// The name of a file while object_store writes it: a number behind the object's own.
fn is_staged(name: &str) -> bool {
    let suffix = name.split_once('#').map(|(_, suffix)| suffix);
    suffix.is_some_and(|suffix| {
        !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn found(root: &FsPath, path: &FsPath, of: &Metadata) -> Option<Found> {
    let below = path.strip_prefix(root).ok()?;
    let key = below.to_str().filter(|text| !is_staged(text)).map(Path::parse);
    if let Some(Ok(location)) = key {
        let last_modified = of.modified().ok()?.into();
        let (size, e_tag, version) = (of.len(), None, None);
        return Some(Found::Object(ObjectMeta { location, last_modified, size, e_tag, version }));
    }
    Some(Found::Stray(Stray {
        name: below.to_string_lossy().into_owned(),
        unfinished: below.to_str().is_some_and(is_staged),
        bytes: of.len(),
        modified: of.modified().ok()?,
        path: path.to_owned(),
        owner: of.uid(),
    }))
}

/// Every file below `base`, which lies in `root` or is it, under a name behind `after`: others are not
/// looked at.
fn every(
    root: PathBuf,
    base: PathBuf,
    after: Option<Path>,
) -> impl Iterator<Item = io::Result<Found>> + Send {
    // Of what is looked at as a whole a part may be somebody else's: whoever needs all of it asks for
    // what is closed. What is asked for by itself has to be readable.
    let whole = root == base;
    let closed = {
        let root = root.clone();
        move |error: &walkdir::Error| {
            let path = closed(&root, error).filter(|_| whole);
            if let Some(path) = path {
                tracing::warn!("left out, as it may not be looked into: {}", path.display());
            }
            path.is_some()
        }
    };
    let walk = WalkDir::new(base).min_depth(1).follow_links(true).into_iter();
    walk.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if closed(&error) => return None,
            Err(error) => return told(error.into()),
        };
        let is_behind = |after: &Path| {
            let below = entry.path().strip_prefix(&root).ok().and_then(FsPath::to_str);
            below.is_none_or(|below| below > after.as_ref())
        };
        if !entry.file_type().is_file() || !after.as_ref().is_none_or(is_behind) {
            return None;
        }
        match entry.metadata() {
            Ok(of) => found(&root, entry.path(), &of).map(Ok),
            Err(error) => told(error.into()),
        }
    })
}

/// The folder that may not be looked into, where an error says so; all sources are no such one.
fn closed<'a>(root: &FsPath, error: &'a walkdir::Error) -> Option<&'a FsPath> {
    let refused = error.io_error().map(io::Error::kind) == Some(ErrorKind::PermissionDenied);
    let path = error.path().filter(|_| refused)?;
    let is_all = path == root || path == root.join(layout::sources().as_ref());
    (!is_all).then_some(path)
}

/// The folders below `root` that may not be looked into, but those of somebody else right in it, such as
/// a file system's `lost+found`.
pub(crate) fn all_closed(root: &FsPath) -> Vec<PathBuf> {
    let errors = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
    let errors = errors.filter_map(std::result::Result::err);
    let found = errors.filter_map(|error| Some(closed(root, &error)?.to_owned()));
    found.filter(|path| path.parent() != Some(root)).collect()
}

/// What is gone meanwhile is no error.
fn told(error: io::Error) -> Option<io::Result<Found>> {
    (error.kind() != ErrorKind::NotFound).then_some(Err(error))
}

/// The objects below `base` under names that sort behind `after`.
pub(crate) fn objects(
    root: PathBuf,
    base: PathBuf,
    after: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let each = every(root, base, after).filter_map(move |found| match found {
        Ok(Found::Object(object)) => Some(Ok(object)),
        Ok(Found::Stray(stray)) => {
            if !stray.unfinished {
                tracing::debug!("no key has the name of this file: {}", stray.name);
            }
            None
        }
        Err(error) => Some(Err(failed(error.into()))),
    });
    let each: Listing = Box::new(each);
    let next = |(mut each, mut waiting): (Listing, VecDeque<_>)| async move {
        if waiting.is_empty() {
            let read = move || {
                waiting.extend(each.by_ref().take(AT_ONCE));
                (each, waiting)
            };
            (each, waiting) =
                tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.into()))?;
        }
        match waiting.pop_front() {
            Some(Ok(object)) => Ok(Some((object, (each, waiting)))),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    };
    stream::try_unfold((each, VecDeque::new()), next).boxed()
}

/// What lies right in `base`: objects, and folders that have more below them.
pub(crate) fn directly(root: &FsPath, base: &FsPath) -> io::Result<ListResult> {
    let mut listed = ListResult {
        common_prefixes: Vec::new(),
        objects: Vec::new(),
        extensions: Extensions::default(),
    };
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(listed),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let of = match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            of => of?,
        };
        let key = || Path::parse(path.strip_prefix(root).ok()?.to_str()?).ok();
        if of.is_dir() {
            listed.common_prefixes.extend(key());
        } else if of.is_file()
            && let Some(Found::Object(object)) = found(root, &path, &of)
        {
            listed.objects.push(object);
        }
    }
    listed.common_prefixes.sort();
    Ok(listed)
}

/// Files below `base` that are no objects.
pub(crate) fn strays(root: PathBuf, base: PathBuf) -> io::Result<Vec<Stray>> {
    let each = every(root, base, None).filter_map(|found| match found {
        Ok(Found::Stray(stray)) => Some(Ok(stray)),
        Ok(Found::Object(_)) => None,
        Err(error) => Some(Err(error)),
    });
    each.collect()
}

/// Removes what this account's killed writers left below `base` before a moment; gives how many.
/// Whoever still writes such a file, on another host perhaps, fails loudly and writes it again.
pub(crate) fn sweep(root: PathBuf, base: PathBuf, before: SystemTime) -> io::Result<u64> {
    let us = rustix::process::geteuid().as_raw();
    let mut removed = 0;
    for stray in strays(root, base)? {
        let old = stray.unfinished && stray.owner == us && stray.modified < before;
        if old && !is_open(&stray.path) {
            tracing::info!("removed, as its writer was killed: {}", stray.name);
            fs::remove_file(&stray.path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a process that we can look at has it open.
fn is_open(path: &FsPath) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let files = processes.flatten().filter_map(|one| fs::read_dir(one.path().join("fd")).ok());
    let mut files = files.flatten().flatten();
    files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to == path))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::time::Duration;

    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn neither_a_strange_name_nor_a_leftover_ends_a_listing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let log = root.join("s/shop/l/1");
        fs::create_dir_all(&log).unwrap();
        let left = log.join("a-b.log#1");
        let strange = [&b"new\nline"[..], b"not \xff UTF-8"].map(OsStr::from_bytes);
        let odd: Vec<PathBuf> = strange.iter().map(|name| log.join(name)).collect();
        for path in [&log.join("a-b.log"), &log.join("name#x"), &left].into_iter().chain(&odd) {
            fs::write(path, "xyz").unwrap();
        }
        let named = |all: Vec<ObjectMeta>| -> Vec<String> {
            let mut names: Vec<String> = all.iter().map(|one| one.location.to_string()).collect();
            names.sort();
            names
        };
        let all = objects(root.clone(), root.clone(), None).try_collect().await.unwrap();
        assert_eq!(named(all), ["s/shop/l/1/a-b.log", "s/shop/l/1/name#x"]);
        let after = Path::from("s/shop/l/1/a-b.log");
        let rest = objects(root.clone(), log.clone(), Some(after)).try_collect().await.unwrap();
        assert_eq!(named(rest), ["s/shop/l/1/name#x"]);
        let gone = objects(root.clone(), root.join("nowhere"), None).try_collect::<Vec<_>>().await;
        assert!(gone.unwrap().is_empty());
        assert_eq!(named(directly(&root, &log).unwrap().objects).len(), 2);
        let folders = directly(&root, &root.join("s/shop")).unwrap().common_prefixes;
        assert_eq!(folders, [Path::from("s/shop/l")]);
        let seen = strays(root.clone(), root.clone()).unwrap();
        assert_eq!((seen.len(), seen.iter().filter(|stray| stray.unfinished).count()), (3, 1));
        // Only what is old goes, and only what nobody has open.
        let sweep = |before| sweep(root.clone(), root.join("s/shop"), before).unwrap();
        let (past, future) = (Duration::from_secs(3600), Duration::from_secs(3600));
        assert_eq!(sweep(SystemTime::now() - past), 0);
        let open = fs::File::open(&left).unwrap();
        assert_eq!(sweep(SystemTime::now() + future), 0);
        drop(open);
        assert_eq!(sweep(SystemTime::now() + future), 1);
        assert!(!left.exists() && odd.iter().all(|path| path.exists()));
    }
}
