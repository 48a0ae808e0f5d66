/// Bytes of a name that are kept; `PostgreSQL` itself cuts names at 63.
pub(super) const NAME_BYTES: usize = 1024;

/// Bytes of a statement about the database itself that are kept; a longer one is not run.
pub(super) const DEFINITION_BYTES: usize = 64 << 10;

/// What is being collected.
#[derive(Debug)]
pub(super) enum Part {
    Raw(usize),
    Text { left: u64, keep: usize },
    Data { left: u64 },
}

/// Where in the file the walker is: the field that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Magic,
    Compression,
    Date(u8),
    HeaderText(u8),
    EntryCount,
    EntryId,
    HadDumper,
    TableOid,
    Oid,
    Tag,
    Description,
    Section,
    Definition,
    Drop,
    Copy,
    Namespace,
    Tablespace,
    TableAm,
    RelKind,
    Owner,
    WithOids,
    Dependency,
    Offset,
    BlockType,
    BlockId,
    Chunk,
    LargeObject,
    End,
}

/// How a field is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Bytes(usize),
    Int,
    /// A length, then as many bytes, of which so many are kept.
    Text {
        keep: usize,
    },
    /// A length, then as many bytes of rows or large objects.
    Data,
}

impl Field {
    /// How the field is written in archives of version `format`.
    pub(super) fn layout(self, format: (u8, u8), offset_bytes: usize) -> Shape {
        match self {
            Field::Magic => Shape::Bytes(11),
            Field::Compression if format >= (1, 15) => Shape::Bytes(1),
            Field::Compression
            | Field::Date(_)
            | Field::EntryCount
            | Field::EntryId
            | Field::HadDumper
            | Field::Section
            | Field::RelKind
            | Field::BlockId
            | Field::LargeObject => Shape::Int,
            Field::HeaderText(_)
            | Field::Oid
            | Field::Tag
            | Field::Description
            | Field::Namespace => Shape::Text { keep: NAME_BYTES },
            // 1,600 columns, each with a name of 63 bytes in quotes.
            Field::Copy => Shape::Text { keep: DEFINITION_BYTES << 2 },
            Field::TableOid
            | Field::Definition
            | Field::Drop
            | Field::Tablespace
            | Field::TableAm
            | Field::Owner
            | Field::WithOids
            | Field::Dependency => Shape::Text { keep: 0 },
            Field::Offset => Shape::Bytes(1 + offset_bytes),
            Field::BlockType | Field::End => Shape::Bytes(1),
            Field::Chunk => Shape::Data,
        }
    }
}

/// An integer: a byte for its sign, then its magnitude, the lowest byte first.
pub(super) fn int(raw: &[u8]) -> Result<i64, String> {
    let magnitude = raw[1..].iter().rev().fold(0_u64, |value, &b| value << 8 | u64::from(b));
    let value = i64::try_from(magnitude).map_err(|_| "a number is too large".to_owned())?;
    match raw[0] {
        0 => Ok(value),
        1 => Ok(-value),
        sign => Err(format!("a number has the sign {sign:#04x}")),
    }
}
