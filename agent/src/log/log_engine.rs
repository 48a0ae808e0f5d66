//! What an engine has to say of its log, so that the common rooms can learn, index and settle it.

use drctl_model::{Holds, Lineage, LogAt, LogNotes, NoteName, Position};
use serde_json::{Map, Value};

/// An engine, as it is asked about its log. What it notes of a lineage is its own: the common rooms keep
/// it, and give it back.
pub trait LogEngine: Clone + Send + Sync + 'static {
    /// Its positions, as its own tools print them.
    type At: Position;
    /// What it notes of a lineage beside the pieces.
    type Notes: Clone + std::fmt::Debug + Default + PartialEq + Send + Sync;

    /// What people call its log.
    const LOG: &'static str;

    /// What people call a lineage.
    fn called(lineage: &Lineage) -> String;

    /// The note of a lineage that it has in the bucket, if any.
    fn note() -> Option<NoteName>;

    /// Whether it writes such pieces of a log of this unit: as much as it puts into one, where it can.
    fn is_possible(range: (LogAt, LogAt), unit: u64) -> bool;

    /// Whether a piece that begins there follows one that ends there, and none that it is part of.
    fn begins(start: LogAt, unit: u64) -> bool;

    /// What it had noted; nothing where it cannot be read.
    fn read(notes: &LogNotes) -> Option<Self::Notes>;

    /// The same, to be noted.
    fn written(notes: &Self::Notes) -> Map<String, Value>;

    /// Notes what is signed of a piece.
    fn learn(notes: &mut Self::Notes, range: (Self::At, Self::At), holds: &Holds);

    /// What was noted before and what is new, of pieces that are there; nothing of the note.
    fn join(
        old: Self::Notes,
        fresh: Self::Notes,
        is_there: impl Fn((Self::At, Self::At)) -> bool,
    ) -> Self::Notes;

    /// Takes over what was known of the note; whether anything was.
    fn keep_note(notes: &mut Self::Notes, from: &Self::Notes) -> bool;

    /// Notes what is signed of the note.
    fn learn_note(notes: &mut Self::Notes, holds: &Holds);
}
