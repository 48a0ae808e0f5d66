/// What bounds the memory of a backup or restore, and its share of the machine.
///
/// On the way in at most `3 * seals + puts + 1` segments are in memory, on the way back at most
/// `fetches + 3 * seals + 1`, and that only for data that does not compress: see
/// `docs/performance.md` for the figures.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Plain bytes of a segment.
    pub segment_bytes: u64,
    /// Segments compressed and encrypted at once.
    pub seals: usize,
    /// Segments written at once.
    pub puts: usize,
    /// Segments fetched at once on the way back.
    pub fetches: usize,
    /// Segments that one page of the segment list holds.
    pub page_segments: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let segment_bytes = drctl_store::SEGMENT_BYTES;
        Limits { segment_bytes, seals: 2, puts: 2, fetches: 4, page_segments: 4096 }
    }
}
