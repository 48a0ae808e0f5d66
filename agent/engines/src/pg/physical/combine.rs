//! A chain of base backups combined into one cluster, by the server's own `pg_combinebackup`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drctl_model::Digest;
use sha2::{Digest as _, Sha256};

use super::listing::{Came, MAX_LISTING_BYTES, read, same, wrong};
use super::{Layout, extract};
use crate::common::EngineError;
use crate::common::process::Tool;
use crate::pg::dump::WalkError;
use crate::pg::physical::PhysicalError;

const TOOL: &str = "pg_combinebackup";

/// The server's list of files, in a data directory.
const LISTING: &str = "backup_manifest";

/// Has the places of tablespaces, which are others than the list was made for.
const MAP: &str = "tablespace_map";

/// How much of a file is hashed at once, in bytes.
const PIECE: usize = 256 << 10;

/// A chain that was extracted, and where it is to go.
#[derive(Debug, Clone)]
pub struct Combination {
    /// `pg_combinebackup` of the major version that the backups are of.
    pub program: PathBuf,
    /// The full backup, then each that is based on the one before; with the digest that its list of
    /// files must have, where that is known.
    pub parts: Vec<(Layout, Option<Digest>)>,
    /// The tablespaces of the last.
    pub tablespaces: Vec<u32>,
    /// Where the cluster goes; nothing is there yet.
    pub into: Layout,
    /// How long the program may do nothing.
    pub silence: Duration,
}

/// Combines a chain, and compares every file of the result with the list that comes with it. A file
/// that was taken over as it is must have the digest that the server gave it.
///
/// # Errors
/// [`EngineError::ToolFailed`]; [`PhysicalError::Differs`] where a list is another one, or a file is
/// not what the list says.
pub async fn combine(chain: Combination) -> Result<(), EngineError> {
    let (tool, check) = (command(&chain), chain.parts.clone());
    blocking(move || check.iter().try_for_each(|(layout, digest)| is_listed(layout, *digest)))
        .await?;
    let running = tool.start_alone()?;
    running.wait_working(chain.silence).await?.success()?;
    let into = chain.into;
    blocking(move || {
        relocate(&into)?;
        let data = into.data();
        check_tree(&into).map_err(|source| differs(&data, source))?;
        let synced = into.below_data().and_then(|below| below.sync_all());
        synced.map_err(EngineError::io(format!("sync {}", data.display())))
    })
    .await
}

async fn blocking(
    work: impl FnOnce() -> Result<(), EngineError> + Send + 'static,
) -> Result<(), EngineError> {
    let lost = |error: tokio::task::JoinError| std::io::Error::other(error.to_string());
    let done = tokio::task::spawn_blocking(work).await.map_err(lost);
    done.map_err(EngineError::io("look at the backups of the chain"))?
}

fn command(chain: &Combination) -> Tool {
    let mut tool = Tool::new(TOOL, chain.program.clone());
    // All is synced at once at the end.
    tool = tool.args(&["--no-sync", "--manifest-checksums=SHA256"]);
    if let Some((last, _)) = chain.parts.last() {
        for oid in &chain.tablespaces {
            let mut mapping = OsString::from("--tablespace-mapping=");
            mapping.push(escaped(&last.tablespace(*oid)));
            mapping.push("=");
            mapping.push(escaped(&chain.into.tablespace(*oid)));
            tool = tool.arg(mapping);
        }
    }
    tool = tool.arg("--output").arg(chain.into.data());
    chain.parts.iter().fold(tool, |tool, (part, _)| tool.arg(part.data()))
}

/// A path in a mapping, where an equals sign parts the two.
fn escaped(path: &Path) -> OsString {
    let text = path.as_os_str().as_encoded_bytes();
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if *byte == b'=' {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    OsString::from_vec(out)
}

fn differs(data: &Path, source: WalkError) -> EngineError {
    EngineError::from(PhysicalError::Differs { place: data.display().to_string(), source })
}

fn listing(layout: &Layout) -> Result<Vec<u8>, WalkError> {
    let mut bytes = Vec::new();
    let opened = layout.below_data().and_then(|data| data.read(Path::new(LISTING)));
    let read = opened.and_then(|file| file.take(MAX_LISTING_BYTES as u64).read_to_end(&mut bytes));
    read.map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    Ok(bytes)
}

/// Whether a base backup that was extracted has the very list that its signed manifest speaks of.
fn is_listed(layout: &Layout, digest: Option<Digest>) -> Result<(), EngineError> {
    let data = layout.data();
    let failed = |source| differs(&data, source);
    let bytes = listing(layout).map_err(failed)?;
    read(&bytes).map_err(failed)?;
    let found = Digest(Sha256::digest(&bytes).into());
    if digest.is_some_and(|digest| digest != found) {
        return Err(failed(wrong("it is not the one that the signed manifest names")));
    }
    Ok(())
}

/// The program takes over the map of tablespaces from the last backup: it leads to the tablespaces
/// of that one.
fn relocate(into: &Layout) -> Result<(), EngineError> {
    let path = into.data().join(MAP);
    let action = || format!("correct {}", path.display());
    let failed = |error| EngineError::io(action())(error);
    let data = into.below_data().map_err(failed)?;
    if !data.has(Path::new(MAP)).map_err(failed)? {
        return Ok(());
    }
    let mut old = Vec::new();
    let read = data.read(Path::new(MAP)).and_then(|mut file| file.read_to_end(&mut old));
    read.map_err(failed)?;
    let new = extract::relocated(&old, into).map_err(|source| differs(&path, source))?;
    let written = data.rewrite(Path::new(MAP)).and_then(|mut file| file.write_all(&new));
    written.map_err(failed)
}

/// Every file of a data directory against the list in it: none missing, none too many, none other.
fn check_tree(layout: &Layout) -> Result<(), WalkError> {
    let parsed = read(&listing(layout)?)?;
    let root = layout.root().map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    let mut listed = 0u64;
    for file in &parsed.files {
        let path = file.path()?;
        if path.starts_with("pg_wal/") {
            continue;
        }
        listed += 1;
        if path != MAP {
            let came = root.read(&Layout::listed(path)).and_then(hashed);
            let came = came.map_err(|error| wrong(format!("{path}: {error}")))?;
            same(path, file, Some(&came))?;
        }
    }
    let found =
        files(&layout.data()).map_err(|error| wrong(format!("the files beside it: {error}")))?;
    // The list does not list itself.
    if found != listed + 1 {
        return Err(wrong(format!("there are {} files, but it lists {listed}", found - 1)));
    }
    Ok(())
}

fn hashed(mut file: File) -> std::io::Result<Came> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0u64, vec![0; PIECE]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((size, Digest(hash.finalize().into())));
        }
        hash.update(&piece[..count]);
        size += count as u64;
    }
}

/// How many files there are below a data directory, those of tablespaces too, without the WAL.
fn files(data: &Path) -> std::io::Result<u64> {
    let mut count = 0u64;
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path == data.join("pg_wal") {
                continue;
            }
            // Through links: those to tablespaces.
            if fs::metadata(&path)?.is_dir() {
                folders.push(path);
            } else {
                count += 1;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_equals_sign_in_a_path_parts_nothing() {
        assert_eq!(escaped(Path::new("/a=b/c")), "/a\\=b/c");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("pg_combinebackup");
        fs::write(&program, "#!/bin/sh\nsleep 600 & wait\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (into, silence) = (Layout::new(&root.path().join("r")), Duration::from_millis(200));
        let chain =
            Combination { program, parts: Vec::new(), tablespaces: Vec::new(), into, silence };
        let error = combine(chain).await.unwrap_err();
        assert_eq!(error.code(), "silent", "{error}");
    }

    /// A data directory with two files and the list that fits it.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("base")).unwrap();
        let mut lines = Vec::new();
        for name in ["PG_VERSION", "base/1"] {
            fs::write(data.join(name), name).unwrap();
            let (size, digest) = hashed(File::open(data.join(name)).unwrap()).unwrap();
            lines.push(format!(
                "{{ \"Path\": \"{name}\", \"Size\": {size}, \"Checksum-Algorithm\": \"SHA256\", \
                 \"Checksum\": \"{digest}\" }}"
            ));
        }
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7,\n\"Files\": \
             [\n{}\n],\n\"WAL-Ranges\": [\n],\n",
            lines.join(",\n")
        );
        let own = Digest(Sha256::digest(text.as_bytes()).into());
        fs::write(data.join(LISTING), format!("{text}\"Manifest-Checksum\": \"{own}\"}}\n"))
            .unwrap();
        root
    }

    #[test]
    fn a_result_is_what_its_list_says_or_it_is_none() {
        type Change = fn(&Path);
        let check = |root: &tempfile::TempDir| check_tree(&Layout::new(root.path()));
        assert_eq!(check(&tree()), Ok(()));
        let cases: [(&str, Change); 6] = [
            ("base/1", |data| {
                fs::rename(data.join("base/1"), data.join("../elsewhere")).unwrap();
                std::os::unix::fs::symlink("../../elsewhere", data.join("base/1")).unwrap();
            }),
            ("other content", |data| fs::write(data.join("base/1"), "base/2").unwrap()),
            ("base/1", |data| fs::remove_file(data.join("base/1")).unwrap()),
            ("there are 3 files", |data| fs::write(data.join("base/2"), "").unwrap()),
            ("own checksum", |data| {
                let text = fs::read_to_string(data.join(LISTING)).unwrap();
                fs::write(
                    data.join(LISTING),
                    text.replace("\"System-Identifier\": 7", "\"System-Identifier\": 8"),
                )
                .unwrap();
            }),
            ("cannot be read", |data| fs::remove_file(data.join(LISTING)).unwrap()),
        ];
        for (word, change) in cases {
            let root = tree();
            change(&root.path().join("data"));
            let said = check(&root).unwrap_err().to_string();
            assert!(said.contains(word), "{word}: {said}");
        }
        // The WAL and what is below it is not the list's.
        let root = tree();
        fs::create_dir(root.path().join("data/pg_wal")).unwrap();
        fs::write(root.path().join("data/pg_wal/1"), "").unwrap();
        assert_eq!(check(&root), Ok(()));
    }
}
