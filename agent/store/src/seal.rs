use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use drctl_model::{Digest, MAX_SEGMENT_BYTES, Segment};
use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::CParameter;

use crate::stream_sealer::{StreamSealer, Tools};
use crate::{Identities, Recipients, SealError};

/// The plain bytes of a segment unless configured otherwise.
///
/// Bounds three things: memory, what one damaged object costs, and the work lost when a put
/// fails. Well under every store's limit for one put (S3: 5 GiB), so that a segment never needs a
/// multipart upload. Larger segments only cost memory.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// The largest zstd window of a segment, as a power of two: 8 MiB, which every zstd decodes.
pub const MAX_WINDOW_LOG: u32 = 23;

/// A segment ready to be stored.
#[derive(Debug)]
pub struct SealedSegment {
    /// Its entry in the segment list.
    pub segment: Segment,
    /// The object's bytes.
    pub bytes: Vec<u8>,
}

/// What is used again from one segment to the next: a fresh context or buffer of this size costs
/// its page faults every time, and one a thread would not be bounded.
pub(crate) struct Spare<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Spare<T> {
    fn clone(&self) -> Self {
        Spare(Arc::clone(&self.0))
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare(Arc::default())
    }
}

impl<T> Spare<T> {
    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn give(&self, one: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }
}

/// Makes segments. Its clones share their working memory: as much as segments are made at once.
#[derive(Clone)]
pub struct Sealer {
    recipients: Recipients,
    level: i32,
    spare: Spare<Press>,
    tools: Spare<Tools>,
}

/// Compresses into a buffer of its own.
struct Press {
    compressor: zstd::bulk::Compressor<'static>,
    frame: Vec<u8>,
}

impl Press {
    fn new(level: i32) -> io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        if level > 16 {
            // From here on the library would choose larger windows for large segments.
            compressor.set_parameter(CParameter::WindowLog(MAX_WINDOW_LOG))?;
        }
        Ok(Press { compressor, frame: Vec::new() })
    }

    fn compress(&mut self, plain: &[u8]) -> io::Result<&[u8]> {
        self.frame.clear();
        self.frame.reserve(zstd_safe::compress_bound(plain.len()));
        self.compressor.compress_to_buffer(plain, &mut self.frame)?;
        Ok(&self.frame)
    }
}

impl Sealer {
    /// Compresses at `level` (1 to 19) and encrypts to `recipients`.
    #[must_use]
    pub fn new(recipients: &Recipients, level: i32) -> Self {
        Sealer {
            recipients: recipients.clone(),
            level,
            spare: Spare::default(),
            tools: Spare::default(),
        }
    }

    /// Compresses and encrypts segment `n`. Runs for a tenth of a second: for the blocking pool.
    ///
    /// # Errors
    /// [`SealError::Compress`] and [`SealError::Encrypt`], neither of which the data can cause.
    pub fn seal(&self, n: u64, plain: &[u8]) -> Result<SealedSegment, SealError> {
        let mut press = match self.spare.take() {
            Some(press) => press,
            None => Press::new(self.level).map_err(SealError::Compress)?,
        };
        let frame = press.compress(plain).map_err(SealError::Compress)?;
        let bytes = encrypt(frame, &self.recipients)?;
        self.spare.give(press);
        let (plain, sealed) = (plain.len() as u64, bytes.len() as u64);
        let segment = Segment { n, plain, sealed, sha256: digest(&bytes) };
        Ok(SealedSegment { segment, bytes })
    }

    /// One zstd frame with a content checksum, in one age file, of exactly so many plain bytes
    /// that come in pieces.
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn sealer(&self, plain: u64) -> Result<StreamSealer, SealError> {
        StreamSealer::new(&self.tools, self.level, &self.recipients, plain)
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// One zstd frame with a content checksum, in one age file.
///
/// # Errors
/// As [`Sealer::seal`].
pub fn seal_bytes(plain: &[u8], level: i32, recipients: &Recipients) -> Result<Vec<u8>, SealError> {
    let mut press = Press::new(level).map_err(SealError::Compress)?;
    encrypt(press.compress(plain).map_err(SealError::Compress)?, recipients)
}

pub(crate) fn encryptor(recipients: &Recipients) -> Result<age::Encryptor, SealError> {
    age::Encryptor::with_recipients(recipients.iter())
        .map_err(|error| SealError::Encrypt(error.into()))
}

fn encrypt(frame: &[u8], recipients: &Recipients) -> Result<Vec<u8>, SealError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| SealError::Encrypt(error);
    let encryptor = encryptor(recipients)?;
    // age adds 16 bytes to every 64 KiB and a header of some 200 bytes a recipient.
    let mut sealed = Vec::with_capacity(frame.len() + frame.len() / 4096 + 4096);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| failed(e.into()))?;
    writer.write_all(frame).map_err(|e| failed(e.into()))?;
    writer.finish().map_err(|e| failed(e.into()))?;
    Ok(sealed)
}

/// Opens segments. Its clones share their working memory.
#[derive(Clone)]
pub struct Opener {
    identities: Identities,
    frames: Spare<Vec<u8>>,
    plains: Spare<Vec<u8>>,
}

impl Opener {
    /// Opens with any of `identities`.
    #[must_use]
    pub fn new(identities: &Identities) -> Self {
        Opener {
            identities: identities.clone(),
            frames: Spare::default(),
            plains: Spare::default(),
        }
    }

    /// Checks, decrypts and decompresses a segment, exactly as the list describes it.
    ///
    /// # Errors
    /// [`SealError::Altered`] when the bytes are not those that were stored,
    /// [`SealError::WrongKey`], [`SealError::Decrypt`] and [`SealError::Decompress`].
    pub fn open(&self, segment: &Segment, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        check_sealed(segment, sealed)?;
        self.open_checked(segment, sealed)
    }

    /// [`Opener::open`] for bytes whose SHA-256 was compared already, as
    /// [`Bucket::get_segment`](crate::Bucket::get_segment) does.
    ///
    /// # Errors
    /// As there, but for `Altered`.
    pub fn open_checked(&self, segment: &Segment, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut frame = self.frames.take().unwrap_or_default();
        decrypt(sealed, &self.identities, &mut frame)?;
        let length = usize::try_from(segment.plain.min(MAX_SEGMENT_BYTES)).unwrap_or(usize::MAX);
        let mut plain = self.plains.take().unwrap_or_default();
        plain.reserve_exact(length);
        decompress(&frame, length, segment.plain, &mut plain)?;
        self.frames.give(frame);
        Ok(plain)
    }

    /// Takes a buffer back that [`Opener::open`] gave, for the next segment.
    pub fn give_back(&self, mut plain: Vec<u8>) {
        plain.clear();
        self.plains.give(plain);
    }
}

/// [`Opener::open`] for a single segment.
///
/// # Errors
/// As there.
pub fn open_segment(
    segment: &Segment,
    sealed: &[u8],
    identities: &Identities,
) -> Result<Vec<u8>, SealError> {
    Opener::new(identities).open(segment, sealed)
}

/// Whether `sealed` are the very bytes that were stored; needs no key.
///
/// # Errors
/// [`SealError::Altered`].
pub(crate) fn check_sealed(segment: &Segment, sealed: &[u8]) -> Result<(), SealError> {
    if sealed.len() as u64 != segment.sealed {
        return Err(SealError::Altered { what: "length" });
    }
    if digest(sealed) != segment.sha256 {
        return Err(SealError::Altered { what: "SHA-256" });
    }
    Ok(())
}

/// Opens what [`seal_bytes`] made, of at most `limit` plain bytes.
///
/// # Errors
/// As [`open_segment`], but for `Altered`.
pub fn open_bytes(
    sealed: &[u8],
    limit: usize,
    identities: &Identities,
) -> Result<Vec<u8>, SealError> {
    let mut frame = Vec::new();
    decrypt(sealed, identities, &mut frame)?;
    let stated = zstd_safe::get_frame_content_size(&frame).ok().flatten().unwrap_or(u64::MAX);
    let mut plain = Vec::new();
    match usize::try_from(stated) {
        Ok(length) if length <= limit => decompress(&frame, length, stated, &mut plain)?,
        _ => {
            let what = format!("it holds more than {limit} bytes");
            return Err(SealError::Decompress { what });
        }
    }
    Ok(plain)
}

/// The longest header of an age file that is read; a recipient takes some 100 bytes of it. What it
/// costs to parse grows with its square: 200 KiB of strange lines took seconds.
const MAX_AGE_HEADER: usize = 32 << 10;

fn decrypt(sealed: &[u8], identities: &Identities, frame: &mut Vec<u8>) -> Result<(), SealError> {
    let damaged = |error: age::DecryptError| match error {
        age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed => {
            SealError::WrongKey
        }
        other => SealError::Decrypt(other.into()),
    };
    let head = &sealed[..sealed.len().min(MAX_AGE_HEADER)];
    if !head.windows(5).any(|five| five == b"\n--- ") {
        let text = format!("its header has no end within {MAX_AGE_HEADER} bytes");
        return Err(SealError::Decrypt(text.into()));
    }
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(damaged)?;
    let mut reader = decryptor.decrypt(identities.iter()).map_err(damaged)?;
    frame.clear();
    frame.reserve(sealed.len());
    reader.read_to_end(frame).map_err(|error| SealError::Decrypt(error.into()))?;
    Ok(())
}

/// Decodes exactly one frame into exactly `length` bytes: no bomb, no second frame, no rest.
fn decompress(
    frame: &[u8],
    length: usize,
    expected: u64,
    plain: &mut Vec<u8>,
) -> Result<(), SealError> {
    let damaged = |what: String| SealError::Decompress { what };
    let reason = |code| damaged(zstd_safe::get_error_name(code).to_owned());
    if zstd_safe::find_frame_compressed_size(frame).map_err(reason)? != frame.len() {
        return Err(damaged("bytes follow the frame".to_owned()));
    }
    plain.clear();
    plain.reserve_exact(length);
    // The library writes up to the buffer's capacity, which may be more than this segment's.
    zstd_safe::DCtx::create().decompress(plain, frame).map_err(reason)?;
    if plain.len() as u64 != expected {
        return Err(damaged(format!("{} bytes instead of {expected}", plain.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::new_identity;

    fn keys() -> (Recipients, Identities, Identities) {
        let (first, one) = new_identity("now");
        let (second, two) = new_identity("now");
        let recipients = Recipients::parse([one.as_str(), two.as_str()]).unwrap();
        (recipients, Identities::parse(&first).unwrap(), Identities::parse(&second).unwrap())
    }

    #[test]
    fn every_recipient_opens_what_was_sealed() {
        let (recipients, first, second) = keys();
        for plain in [&b""[..], b"x", &vec![b'a'; 3 << 20], &rand::random::<[u8; 32]>()] {
            let sealed = Sealer::new(&recipients, 3).seal(0, plain).unwrap();
            assert!(sealed.bytes.starts_with(b"age-encryption.org/v1\n"));
            for identities in [&first, &second] {
                let opened = open_segment(&sealed.segment, &sealed.bytes, identities).unwrap();
                assert_eq!(opened, plain);
            }
        }
    }

    #[test]
    fn a_stranger_opens_nothing() {
        let (recipients, ..) = keys();
        let (_, stranger, _) = keys();
        let sealed = Sealer::new(&recipients, 3).seal(0, b"rows").unwrap();
        let error = open_segment(&sealed.segment, &sealed.bytes, &stranger).unwrap_err();
        assert!(matches!(error, SealError::WrongKey));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found_without_the_hash_too() {
        let (recipients, identities, _) = keys();
        let sealed = seal_bytes(&[b'r'; 300], 3, &recipients).unwrap();
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open_bytes(&flipped, 1 << 20, &identities).is_err(), "byte {at}");
            assert!(open_bytes(&sealed[..at], 1 << 20, &identities).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_bomb_and_a_second_frame_are_refused() {
        let (recipients, identities, _) = keys();
        let bomb = Sealer::new(&recipients, 3).seal(0, &vec![0; 1 << 20]).unwrap();
        assert!(open_bytes(&bomb.bytes, 1000, &identities).is_err());
        let mut lying = bomb.segment.clone();
        lying.plain = 1000;
        assert!(open_segment(&lying, &bomb.bytes, &identities).is_err());
        let frame = Press::new(3).unwrap().compress(b"rows").unwrap().to_vec();
        let mut plain = Vec::new();
        decompress(&frame, 4, 4, &mut plain).unwrap();
        assert_eq!(plain, b"rows");
        let twice = [&frame[..], &frame[..]].concat();
        assert!(decompress(&twice, 8, 8, &mut plain).is_err());
    }

    #[test]
    fn the_highest_level_stays_within_the_window() {
        let plain: Vec<u8> =
            (0..20u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let frame = Press::new(19).unwrap().compress(&plain).unwrap().to_vec();
        let mut decoder = zstd_safe::DCtx::create();
        decoder.set_parameter(zstd_safe::DParameter::WindowLogMax(MAX_WINDOW_LOG)).unwrap();
        let mut out = vec![0u8; 1 << 20];
        let mut input = zstd_safe::InBuffer::around(&frame);
        let mut output = zstd_safe::OutBuffer::around(&mut out[..]);
        decoder.decompress_stream(&mut output, &mut input).unwrap();
    }
}
