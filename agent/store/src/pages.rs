use bytes::Bytes;
use drctl_model::{BackupId, PageRef, Segment, SourceId, Stream, StreamId};

use crate::seal::digest;
use crate::{Bucket, FormatError, StoreError, layout};

/// The most bytes of a page of the segment list.
pub const MAX_PAGE_BYTES: u64 = 16 << 20;

/// The most segments that one page lists.
pub const MAX_PAGE_SEGMENTS: u64 = 65_536;

/// Collects the segment list of one stream, writing each full page away at once: holds at most
/// one page, however long the stream is.
pub struct PageWriter {
    source: SourceId,
    backup: BackupId,
    stream: StreamId,
    segment_bytes: u64,
    per_page: usize,
    pages: Vec<PageRef>,
    tail: Vec<Segment>,
    totals: StreamTotals,
}

/// What of a stream is stored so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamTotals {
    /// Segments.
    pub segments: u64,
    /// Plain bytes in them.
    pub plain: u64,
    /// Bytes of the objects.
    pub sealed: u64,
}

impl PageWriter {
    /// An empty list, cut into pages of `per_page` segments (1 to [`MAX_PAGE_SEGMENTS`]).
    #[must_use]
    pub fn new(
        source: &SourceId,
        backup: &BackupId,
        stream: &StreamId,
        segment_bytes: u64,
        per_page: u64,
    ) -> Self {
        let per_page = usize::try_from(per_page.clamp(1, MAX_PAGE_SEGMENTS)).unwrap_or(usize::MAX);
        PageWriter {
            source: source.clone(),
            backup: backup.clone(),
            stream: stream.clone(),
            segment_bytes,
            per_page,
            pages: Vec::new(),
            tail: Vec::new(),
            totals: StreamTotals::default(),
        }
    }

    /// What is in the list so far.
    #[must_use]
    pub fn totals(&self) -> StreamTotals {
        self.totals
    }

    /// Adds the next segment, which must be stored already.
    ///
    /// # Errors
    /// [`StoreError`](crate::StoreError) when a full page is written.
    pub async fn push(&mut self, bucket: &Bucket, segment: Segment) -> Result<(), StoreError> {
        debug_assert_eq!(segment.n, self.totals.segments);
        self.totals.segments += 1;
        self.totals.plain += segment.plain;
        self.totals.sealed += segment.sealed;
        self.tail.push(segment);
        if self.tail.len() == self.per_page { self.flush(bucket).await } else { Ok(()) }
    }

    async fn flush(&mut self, bucket: &Bucket) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&self.tail).expect("segments are always JSON");
        let page = PageRef {
            n: self.pages.len() as u64,
            segments: self.tail.len() as u64,
            bytes: bytes.len() as u64,
            sha256: digest(&bytes),
        };
        let key = layout::page(&self.source, &self.backup, &self.stream, page.n);
        bucket.put(&key, Bytes::from(bytes)).await?;
        self.pages.push(page);
        self.tail.clear();
        Ok(())
    }

    /// The stream's entry in the manifest.
    #[must_use]
    pub fn finish(self) -> Stream {
        Stream {
            id: self.stream,
            segment_bytes: self.segment_bytes,
            segments: self.totals.segments,
            plain_bytes: self.totals.plain,
            sealed_bytes: self.totals.sealed,
            pages: self.pages,
            tail: self.tail,
        }
    }
}

/// The segments of page `bytes`, which must be the one that the manifest names.
///
/// # Errors
/// [`FormatError::Page`] for other bytes or segments that do not fit the stream.
pub fn read_page(
    stream: &Stream,
    page: &PageRef,
    bytes: &[u8],
) -> Result<Vec<Segment>, FormatError> {
    let wrong = || FormatError::Page { n: page.n };
    if bytes.len() as u64 != page.bytes || digest(bytes) != page.sha256 {
        return Err(wrong());
    }
    let list: Vec<Segment> = serde_json::from_slice(bytes)
        .map_err(|source| FormatError::json("page of the segment list", &source))?;
    if list.len() as u64 != page.segments || page.segments > MAX_PAGE_SEGMENTS {
        return Err(wrong());
    }
    let earlier = stream.pages.iter().take_while(|other| other.n < page.n);
    let first = earlier.fold(0u64, |sum, other| sum.saturating_add(other.segments));
    stream.check_segments(first, &list)?;
    Ok(list)
}
