//! A tar archive as it streams past: every header checked, its end found.
//!
//! Only what PostgreSQL writes (`src/port/tar.c`): ustar headers for files, directories and
//! symbolic links, sizes in octal or, from 8 GiB on, in base 256; two zero blocks at the end.

use crate::common::stays_below;
use crate::pg::dump::WalkError;

/// What every header and every padding is a multiple of, in bytes.
const BLOCK: usize = 512;

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path, relative to where the archive belongs; stays below it.
    pub(super) path: String,
    /// What it is.
    pub(super) kind: MemberKind,
    /// Its content's length in bytes.
    pub(super) size: u64,
    /// Its permissions, as `chmod` takes them.
    pub(super) mode: u32,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this place.
    Link(String),
}

/// What becomes of members: each is begun, given its bytes, and ended.
pub(super) trait Visit {
    /// A member begins.
    ///
    /// # Errors
    /// What keeps the whole archive from being visited.
    fn begin(&mut self, member: &Member) -> Result<(), WalkError>;

    /// Bytes of the member that began last.
    ///
    /// # Errors
    /// As there.
    fn data(&mut self, bytes: &[u8]) -> Result<(), WalkError>;

    /// The member's last byte has come.
    ///
    /// # Errors
    /// As there.
    fn end(&mut self) -> Result<(), WalkError>;
}

/// Reads an archive in whatever pieces it comes.
#[derive(Debug)]
pub(super) struct TarWalker<V> {
    visitor: V,
    at: u64,
    header: Vec<u8>,
    /// Bytes of the member, and then of its padding, that are still to come.
    left: u64,
    padding: u64,
    zero_blocks: u8,
}

impl<V: Visit> TarWalker<V> {
    /// Before the first byte.
    pub(super) fn new(visitor: V) -> Self {
        let header = Vec::with_capacity(BLOCK);
        TarWalker { visitor, at: 0, header, left: 0, padding: 0, zero_blocks: 0 }
    }

    /// Who visits.
    pub(super) fn visitor(&mut self) -> &mut V {
        &mut self.visitor
    }

    /// The next bytes.
    ///
    /// # Errors
    /// [`WalkError::Malformed`], and what the visitor says.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), WalkError> {
        while !bytes.is_empty() {
            let taken = if self.left > 0 {
                self.member_bytes(bytes)?
            } else if self.padding > 0 {
                let taken = shorter(bytes.len(), self.padding);
                self.padding -= taken as u64;
                taken
            } else {
                self.header_bytes(bytes)?
            };
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn member_bytes(&mut self, bytes: &[u8]) -> Result<usize, WalkError> {
        let taken = shorter(bytes.len(), self.left);
        self.visitor.data(&bytes[..taken])?;
        self.left -= taken as u64;
        if self.left == 0 {
            self.visitor.end()?;
        }
        Ok(taken)
    }

    fn header_bytes(&mut self, bytes: &[u8]) -> Result<usize, WalkError> {
        let taken = bytes.len().min(BLOCK - self.header.len());
        self.header.extend_from_slice(&bytes[..taken]);
        if self.header.len() == BLOCK {
            self.header_whole()?;
            self.header.clear();
        }
        Ok(taken)
    }

    fn header_whole(&mut self) -> Result<(), WalkError> {
        if self.header.iter().all(|byte| *byte == 0) {
            self.zero_blocks += 1;
            return if self.zero_blocks > 2 {
                Err(self.wrong("goes on after its end"))
            } else {
                Ok(())
            };
        }
        if self.zero_blocks > 0 {
            return Err(self.wrong("goes on after its end"));
        }
        let member = parse(&self.header).map_err(|problem| self.wrong(problem))?;
        self.visitor.begin(&member)?;
        self.left = member.size;
        self.padding = member.size.wrapping_neg() % BLOCK as u64;
        if self.left == 0 {
            self.visitor.end()?;
        }
        Ok(())
    }

    fn wrong(&self, problem: impl Into<String>) -> WalkError {
        WalkError::Malformed { at: self.at, problem: problem.into() }
    }

    /// The visitor, wherever the archive is.
    pub(super) fn into_visitor(self) -> V {
        self.visitor
    }

    /// The visitor, if the archive has come to its end.
    ///
    /// # Errors
    /// [`WalkError::Malformed`] for one that is cut.
    pub(super) fn finish(self) -> Result<V, WalkError> {
        let whole = self.zero_blocks == 2 && self.header.is_empty();
        if whole && self.left == 0 && self.padding == 0 {
            return Ok(self.visitor);
        }
        Err(self.wrong("ends before its end"))
    }
}

fn shorter(have: usize, left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(have)
}

fn parse(header: &[u8]) -> Result<Member, String> {
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let stated: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
    if number(&header[148..156]) != Some(sum - stated + 8 * u64::from(b' ')) {
        return Err("a header's checksum is wrong".to_owned());
    }
    let size = number(&header[124..136]).ok_or("a member's size is no number")?;
    let mode = number(&header[100..108]).and_then(|mode| u32::try_from(mode & 0o7777).ok());
    let mode = mode.ok_or("a member's mode is no number")?;
    let path = text(&header[..100])?;
    let kind = match header[156] {
        b'0' | 0 => MemberKind::File,
        b'5' => MemberKind::Directory,
        b'2' => MemberKind::Link(text(&header[157..257])?),
        other => return Err(format!("a member of the unknown kind {other}")),
    };
    let size = if kind == MemberKind::File { size } else { 0 };
    // The place of a first part of the path, which PostgreSQL never writes.
    if header[345..500].iter().any(|byte| *byte != 0) {
        return Err("a member's path is in two parts".to_owned());
    }
    // PostgreSQL writes some directories with a dot before them, and a slash behind all and links.
    let path = path.strip_prefix("./").unwrap_or(&path);
    let end = if kind == MemberKind::File { None } else { path.strip_suffix('/') };
    let path = end.unwrap_or(path).to_owned();
    if !stays_below(&path) {
        return Err("a member's path leads elsewhere".to_owned());
    }
    Ok(Member { path, kind, size, mode })
}

fn text(field: &[u8]) -> Result<String, String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).map_err(|_| "a name is not UTF-8".to_owned())
}

/// Octal digits, or big-endian bytes behind one with the highest bit set.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let mut digits = digits.take_while(|byte| !matches!(byte, b' ' | 0));
    digits.try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Archives as a stranger may make them.
#[cfg(test)]
pub(super) mod sample {
    /// A member: its path, its kind as the header has it, where it leads, and what is in it.
    pub(in crate::pg::physical) type Sample<'a> = (&'a str, u8, &'a str, &'a [u8]);

    pub(in crate::pg::physical) fn archive(members: &[Sample<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, kind, link, content) in members {
            let mut header = [0u8; super::BLOCK];
            header[..path.len()].copy_from_slice(path.as_bytes());
            header[100..107].copy_from_slice(b"0000600");
            header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
            header[156] = *kind;
            header[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(super::BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * super::BLOCK, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(Member, Vec<u8>)>, usize);

    impl Visit for Seen {
        fn begin(&mut self, member: &Member) -> Result<(), WalkError> {
            self.0.push((member.clone(), Vec::new()));
            Ok(())
        }
        fn data(&mut self, bytes: &[u8]) -> Result<(), WalkError> {
            self.0.last_mut().unwrap().1.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), WalkError> {
            self.1 += 1;
            Ok(())
        }
    }

    /// An archive as GNU tar makes it in the form that PostgreSQL uses.
    fn archive() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("base")).unwrap();
        std::fs::write(at("base/1"), vec![7; 1000]).unwrap();
        std::fs::write(at("base/empty"), "").unwrap();
        std::fs::write(at("label"), "x".repeat(512)).unwrap();
        std::os::unix::fs::symlink("/elsewhere", at("link")).unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.args(["--format=ustar", "--blocking-factor=1", "--sort=name", "-cf", "-", "-C"]);
        let output = tar.arg(folder.path()).args(["base", "label", "link"]).output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn walk(bytes: &[u8], step: usize) -> Result<Seen, WalkError> {
        let mut walker = TarWalker::new(Seen::default());
        for piece in bytes.chunks(step) {
            walker.push(piece)?;
        }
        walker.finish()
    }

    #[test]
    fn members_are_seen_whole_in_any_pieces() {
        let bytes = archive();
        for step in [1, 7, 511, 512, 513, 100_000] {
            let seen = walk(&bytes, step).unwrap();
            let names: Vec<&str> = seen.0.iter().map(|(member, _)| member.path.as_str()).collect();
            assert_eq!(names, ["base", "base/1", "base/empty", "label", "link"]);
            assert_eq!(seen.0[1].1, vec![7; 1000]);
            assert_eq!(seen.0[3].1.len(), 512);
            assert_eq!(seen.0[4].0.kind, MemberKind::Link("/elsewhere".into()));
            assert_eq!(seen.1, 5);
        }
    }

    #[test]
    fn an_archive_that_is_cut_is_not_whole() {
        let bytes = archive();
        for end in 0..bytes.len() {
            assert!(walk(&bytes[..end], 4096).is_err(), "cut at {end}");
        }
        let longer = [bytes.as_slice(), &[0; 512]].concat();
        assert!(walk(&longer, 4096).is_err());
    }

    #[test]
    fn a_changed_header_is_found() {
        let bytes = archive();
        // The last byte of the checksum's own field is the blank behind its end.
        for at in (0..BLOCK).filter(|at| *at != 155) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            assert!(walk(&changed, 4096).is_err(), "byte {at}");
        }
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"00000001750\0"), Some(1000));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 32) + 1));
        assert_eq!(number(b"9"), None);
    }
}
