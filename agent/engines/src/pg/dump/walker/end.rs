use super::field::Field;
use crate::pg::dump::{DumpShape, DumpWalker, WalkError};

impl DumpWalker {
    /// Whether the dump makes anything; nothing while its table of contents may still say so.
    #[must_use]
    pub fn makes(&self) -> Option<bool> {
        let makes = self.shape.objects > 0;
        (makes || self.contents().is_some()).then_some(makes)
    }

    /// The statements about the database itself, once the table of contents was read: the kind of
    /// each, and its text where it can be run.
    pub(crate) fn contents(&self) -> Option<&[(String, Option<String>)]> {
        use Field::{BlockId, BlockType, Chunk, End, LargeObject};
        let read = matches!(self.field, BlockType | BlockId | Chunk | LargeObject | End);
        read.then_some(self.shape.own.as_slice())
    }

    /// Ends the dump.
    ///
    /// # Errors
    /// [`WalkError::Truncated`].
    pub fn finish(mut self) -> Result<DumpShape, WalkError> {
        if self.field == Field::End {
            self.shape.bytes = self.at;
            return Ok(self.shape);
        }
        let missing = match self.field {
            Field::BlockType => format!("{} blocks of data are missing", self.due.len()),
            Field::BlockId | Field::Chunk | Field::LargeObject => {
                format!("inside a block of data, {} more are missing", self.due.len())
            }
            Field::Magic | Field::Compression | Field::Date(_) | Field::HeaderText(_) => {
                "inside the header".to_owned()
            }
            _ => "inside the table of contents".to_owned(),
        };
        Err(WalkError::Truncated { at: self.at, missing })
    }
}
