use std::io::Write as _;

use age::stream::StreamWriter;
use drctl_model::Digest;
use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use crate::seal::{Spare, encryptor};
use crate::{MAX_WINDOW_LOG, Recipients, SealError};

/// Compressed bytes are handed on in pieces of this size.
const OUT: usize = 128 << 10;

/// Compresses, encrypts and hashes plain bytes as they are read, so that neither they nor the
/// frame are ever held as a whole: a log segment's 16 MiB cost more in page faults than to copy.
pub struct StreamSealer {
    tools: Tools,
    spare: Spare<Tools>,
    sealed: StreamWriter<Vec<u8>>,
    hash: Sha256,
    plain: u64,
}

/// What is used again.
pub(crate) struct Tools {
    context: CCtx<'static>,
    out: Vec<u8>,
}

/// What was poured, sealed.
#[derive(Debug, Clone)]
pub struct SealedStream {
    /// One age file with one zstd frame in it.
    pub sealed: Vec<u8>,
    /// Plain bytes.
    pub plain: u64,
    /// The SHA-256 of the plain bytes.
    pub plain_sha256: Digest,
}

fn failed(code: usize) -> SealError {
    SealError::Compress(std::io::Error::other(zstd_safe::get_error_name(code)))
}

impl Tools {
    fn new(level: i32) -> Result<Self, SealError> {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        context.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
        if level > 16 {
            context.set_parameter(CParameter::WindowLog(MAX_WINDOW_LOG)).map_err(failed)?;
        }
        Ok(Tools { context, out: Vec::with_capacity(OUT) })
    }
}

impl StreamSealer {
    pub(crate) fn new(
        spare: &Spare<Tools>,
        level: i32,
        recipients: &Recipients,
        plain: u64,
    ) -> Result<Self, SealError> {
        let mut tools = match spare.take() {
            Some(tools) => tools,
            None => Tools::new(level)?,
        };
        // It stands in the frame: the way back allocates what it says, and no more.
        tools.context.set_pledged_src_size(Some(plain)).map_err(failed)?;
        // Log shrinks to a third or less; what does not makes the buffer grow.
        let sealed = Vec::with_capacity(usize::try_from(plain / 3).unwrap_or(0) + 4096);
        let sealed = encryptor(recipients)?
            .wrap_output(sealed)
            .map_err(|error| SealError::Encrypt(error.into()))?;
        Ok(StreamSealer { tools, spare: spare.clone(), sealed, hash: Sha256::new(), plain: 0 })
    }

    /// Takes the next plain bytes.
    ///
    /// # Errors
    /// [`SealError::Compress`] for more bytes than were announced, [`SealError::Encrypt`].
    pub fn add(&mut self, plain: &[u8]) -> Result<(), SealError> {
        self.hash.update(plain);
        self.plain += plain.len() as u64;
        let mut input = InBuffer::around(plain);
        while input.pos() < plain.len() {
            let Tools { context, out } = &mut self.tools;
            out.clear();
            context.compress_stream(&mut OutBuffer::around(out), &mut input).map_err(failed)?;
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), SealError> {
        self.sealed.write_all(&self.tools.out).map_err(|error| SealError::Encrypt(error.into()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`SealError::Compress`] for fewer bytes than were announced, [`SealError::Encrypt`].
    pub fn finish(mut self) -> Result<SealedStream, SealError> {
        loop {
            let Tools { context, out } = &mut self.tools;
            out.clear();
            let left = context.end_stream(&mut OutBuffer::around(out)).map_err(failed)?;
            self.write()?;
            if left == 0 {
                break;
            }
        }
        let sealed = self.sealed.finish().map_err(|error| SealError::Encrypt(error.into()))?;
        self.spare.give(self.tools);
        let plain_sha256 = Digest(self.hash.finalize().into());
        Ok(SealedStream { sealed, plain: self.plain, plain_sha256 })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Identities, Recipients, Sealer, digest, new_identity, open_bytes};

    #[test]
    fn what_was_poured_in_pieces_comes_back_whole() {
        let (identity, recipient) = new_identity("now");
        let recipients = Recipients::parse([recipient.as_str()]).unwrap();
        let identities = Identities::parse(&identity).unwrap();
        let noise: Vec<u8> = (0..3u32 << 20)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (i >> 7) as u8)
            .collect();
        for level in [1, 3, 19] {
            let sealer = Sealer::new(&recipients, level);
            for plain in [&b""[..], b"x", &vec![b'a'; 3 << 20], &noise] {
                for pieces in [1 << 30, 300_000] {
                    let mut sealer = sealer.sealer(plain.len() as u64).unwrap();
                    plain.chunks(pieces).for_each(|piece| sealer.add(piece).unwrap());
                    let sealed_stream = sealer.finish().unwrap();
                    assert_eq!(
                        (sealed_stream.plain, sealed_stream.plain_sha256),
                        (plain.len() as u64, digest(plain))
                    );
                    assert_eq!(
                        open_bytes(&sealed_stream.sealed, plain.len(), &identities).unwrap(),
                        plain
                    );
                }
            }
        }
    }

    #[test]
    fn another_length_than_announced_is_refused() {
        let (_, recipient) = new_identity("now");
        let sealer = Sealer::new(&Recipients::parse([recipient.as_str()]).unwrap(), 1);
        let mut short = sealer.sealer(10).unwrap();
        short.add(b"rows").unwrap();
        assert!(short.finish().is_err());
        let mut long = sealer.sealer(3).unwrap();
        assert!(long.add(&[b'x'; 1 << 20]).is_err() || long.finish().is_err());
        // The next one is not harmed.
        let mut next = sealer.sealer(4).unwrap();
        next.add(b"rows").unwrap();
        assert_eq!(next.finish().unwrap().plain, 4);
    }
}
