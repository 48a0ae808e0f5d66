//! What records say of blocks, and what commits say, as far as changes are told by it.

use super::bytes::Reader;
use super::relation_changes::Relation;

/// What a commit or abort says.
pub(super) struct End {
    /// When (`TimestampTz`).
    pub(super) time: i64,
    /// Its subtransactions.
    pub(super) subtransactions: Vec<u32>,
    /// The files that are removed with it.
    pub(super) removed: Vec<Relation>,
    /// Its number, where it was prepared.
    pub(super) prepared: Option<u32>,
}

impl End {
    /// `ParseCommitRecord` in `xactdesc.c`.
    pub(super) fn read(info: u8, data: &[u8], long_stats: bool) -> Option<End> {
        const HAS_INFO: u8 = 0x80;
        let mut reader = Reader(data);
        let time = reader.i64()?;
        let mut end = End { time, subtransactions: vec![], removed: vec![], prepared: None };
        if info & HAS_INFO == 0 {
            return Some(end);
        }
        let flags = reader.u32()?;
        let has = |bit: u32| flags & (1 << bit) != 0;
        if has(0) {
            reader.u64()?;
        }
        if has(1) {
            for _ in 0..reader.u32()? {
                end.subtransactions.push(reader.u32()?);
            }
        }
        if has(2) {
            for _ in 0..reader.u32()? {
                end.removed.push(relation_of(&mut reader)?);
            }
        }
        let mut skip = |there: bool, each: usize| -> Option<()> {
            if there {
                let bytes = (reader.u32()? as usize).checked_mul(each)?;
                reader = Reader(reader.0.get(bytes..)?);
            }
            Some(())
        };
        skip(has(8), if long_stats { 16 } else { 12 })?;
        skip(has(3), 16)?;
        if has(4) {
            end.prepared = Some(reader.u32()?);
        }
        Some(end)
    }
}

/// A file, as records name it.
pub(super) fn relation_of(reader: &mut Reader<'_>) -> Option<Relation> {
    Some(Relation { tablespace: reader.u32()?, database: reader.u32()?, file: reader.u32()? })
}

/// The relation of a record's first block (`DecodeXLogRecord` in `xlogreader.c`).
pub(super) fn first_block(body: &[u8]) -> Option<Relation> {
    let mut reader = Reader(body);
    if reader.u8()? > 32 {
        return None;
    }
    block(&mut reader)?
}

/// The header of a block behind its number, as far as its relation; nothing of one that is the same as
/// the one before.
fn block(reader: &mut Reader<'_>) -> Option<Option<Relation>> {
    const HAS_IMAGE: u8 = 0x10;
    const SAME_RELATION: u8 = 0x80;
    const HAS_HOLE: u8 = 1;
    const COMPRESSED: u8 = 0x1C;
    let (flags, _length) = (reader.u8()?, reader.u16()?);
    if flags & HAS_IMAGE != 0 {
        let (_length, _hole, image) = (reader.u16()?, reader.u16()?, reader.u8()?);
        if image & HAS_HOLE != 0 && image & COMPRESSED != 0 {
            reader.u16()?;
        }
    }
    match flags & SAME_RELATION {
        0 => relation_of(reader).map(Some),
        _ => Some(None),
    }
}

/// What a record with blocks says.
#[derive(Debug)]
pub(super) struct Fragments<'a> {
    /// The numbers of its blocks.
    pub(super) blocks: Vec<u32>,
    /// Its main data.
    pub(super) data: &'a [u8],
}

/// All of a record's headers (`DecodeXLogRecord` in `xlogreader.c`); its main data is its end.
pub(super) fn fragments(body: &[u8]) -> Option<Fragments<'_>> {
    let (mut reader, mut blocks) = (Reader(body), Vec::new());
    let length = loop {
        match reader.u8()? {
            255 => break usize::from(reader.u8()?),
            254 => break reader.u32()? as usize,
            253 => drop(reader.u16()?),
            252 => drop(reader.u32()?),
            0..=32 => {
                block(&mut reader)?;
                blocks.push(reader.u32()?);
            }
            _ => return None,
        }
    };
    let data = body.get(body.len().checked_sub(length)?..)?;
    Some(Fragments { blocks, data })
}

/// The main data of a record without blocks.
pub(super) fn main_data(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(body);
    loop {
        match reader.u8()? {
            255 => {
                let length = usize::from(reader.u8()?);
                return reader.0.get(..length);
            }
            254 => {
                let length = reader.u32()? as usize;
                return reader.0.get(..length.min(reader.0.len()));
            }
            253 => drop(reader.u16()?),
            252 => drop(reader.u32()?),
            _ => return None,
        }
    }
}
