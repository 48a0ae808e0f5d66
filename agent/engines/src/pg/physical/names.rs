//! Names of a cluster's roles and databases, read from its files: how to log in to a server that
//! refuses the role that we know, or lacks the database that we know.
//!
//! They are tried and never believed: the server refuses a name that is gone.

use std::io::Read as _;
use std::path::Path;

use crate::common::Below;

/// `BLCKSZ`: of a server that was built with another one nothing is found.
const PAGE: usize = 8192;
/// `SizeOfPageHeaderData`: where the line pointers begin.
const POINTERS: usize = 24;
/// Where a tuple's header tells its own length (`t_hoff`).
const HOFF: usize = 22;
/// `NAMEDATALEN`.
const NAME: usize = 64;
/// `RELMAPPER_FILEMAGIC`.
const MAP_MAGIC: u32 = 0x0059_2717;

/// `AuthIdRelationId`.
const ROLES: u32 = 1260;
/// `DatabaseRelationId`.
const DATABASES: u32 = 1262;

/// The most bytes of a catalog that are looked at.
const MOST_BYTES: u64 = 64 << 20;

/// The most names that are tried.
const MOST: usize = 32;

/// Roles that are or were superusers; first the one that made the cluster.
pub(super) fn superusers(data: &Path) -> Vec<String> {
    let mut found = tuples(data, ROLES);
    // `rolsuper` follows the name.
    found.retain(|(_, _, superuser)| *superuser == 1);
    found.sort();
    names(found)
}

/// Databases that are or were there, but the one that nobody may connect to.
pub(super) fn databases(data: &Path) -> Vec<String> {
    let mut found = tuples(data, DATABASES);
    found.retain(|(_, name, _)| name != "template0");
    found.sort();
    names(found)
}

fn names(found: Vec<(u32, String, u8)>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (_, name, _) in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.truncate(MOST);
    names
}

/// Number, name, and the byte behind it, of every row that a catalog shared by all databases has
/// or had. Both catalogs begin with a number and a name.
fn tuples(data: &Path, catalog: u32) -> Vec<(u32, String, u8)> {
    // What runs on these data may put something else in a file's place, at any moment.
    let read = |name: &str| {
        let file = Below::open(data).and_then(|data| data.read(&Path::new("global").join(name)));
        let mut bytes = Vec::new();
        let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
        read.map(|_| bytes).unwrap_or_default()
    };
    let Some(file) = mapped(&read("pg_filenode.map"), catalog) else { return Vec::new() };
    let bytes = read(&file.to_string());
    bytes.chunks_exact(PAGE).flat_map(of_page).collect()
}

/// The file of a mapped catalog (`RelMapFile` in `relmapper.c`).
fn mapped(map: &[u8], catalog: u32) -> Option<u32> {
    if u32_at(map, 0)? != MAP_MAGIC {
        return None;
    }
    let count = usize::try_from(u32_at(map, 4)?).ok()?.min(64);
    let entry = |n: usize| Some((u32_at(map, 8 + 8 * n)?, u32_at(map, 12 + 8 * n)?));
    (0..count).filter_map(entry).find(|(of, _)| *of == catalog).map(|(_, file)| file)
}

/// `PageHeaderData`, `ItemIdData` and `HeapTupleHeaderData`.
fn of_page(page: &[u8]) -> Vec<(u32, String, u8)> {
    let lower = page.get(12..14).map_or(0, |raw| usize::from(u16::from_le_bytes([raw[0], raw[1]])));
    let pointers = (POINTERS..lower.min(PAGE)).step_by(4).filter_map(|at| u32_at(page, at));
    let tuple = |pointer: u32| {
        let (offset, flags, length) = (pointer & 0x7FFF, (pointer >> 15) & 3, pointer >> 17);
        if flags != 1 {
            return None;
        }
        let from = usize::try_from(offset).ok()?;
        let tuple = page.get(from..from.checked_add(usize::try_from(length).ok()?)?)?;
        let row = tuple.get(usize::from(*tuple.get(HOFF)?)..)?;
        let name = row.get(4..4 + NAME)?.split(|byte| *byte == 0).next()?;
        let name = String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())?;
        Some((u32_at(row, 0)?, name, *row.get(4 + NAME)?))
    };
    pointers.filter_map(tuple).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let raw = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A page with one row.
    fn page(row: &[u8], flags: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let length = u32::try_from(24 + row.len()).unwrap();
        page[12..14].copy_from_slice(&28u16.to_le_bytes());
        page[24..28].copy_from_slice(&(4096 | flags << 15 | length << 17).to_le_bytes());
        page[4096 + HOFF] = 24;
        page[4120..4120 + row.len()].copy_from_slice(row);
        page
    }

    fn row(id: u32, name: &str, superuser: u8) -> Vec<u8> {
        let mut row = vec![0; 80];
        row[..4].copy_from_slice(&id.to_le_bytes());
        row[4..4 + name.len()].copy_from_slice(name.as_bytes());
        row[68] = superuser;
        row
    }

    #[test]
    fn names_are_read_from_a_catalog_and_from_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        assert!(superusers(data.path()).is_empty());
        let global = data.path().join("global");
        fs::create_dir(&global).unwrap();
        let map: Vec<u8> = [MAP_MAGIC, 2, 7, 8, ROLES, 4000]
            .iter()
            .flat_map(|number: &u32| number.to_le_bytes())
            .collect();
        fs::write(global.join("pg_filenode.map"), map).unwrap();
        let pages = [
            page(&row(16400, "clerk", 0), 1),
            page(&row(16390, "chief", 1), 1),
            page(&row(10, "owner", 1), 1),
            page(&row(11, "gone", 1), 0),
            vec![0xFF; PAGE],
            vec![0; 100],
        ];
        fs::write(global.join("4000"), pages.concat()).unwrap();
        assert_eq!(superusers(data.path()), ["owner", "chief"]);
        assert!(databases(data.path()).is_empty());
        fs::rename(&global, data.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &global).unwrap();
        assert!(superusers(data.path()).is_empty(), "a link was followed");
    }
}
