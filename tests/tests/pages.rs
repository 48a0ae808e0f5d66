//! A backup of 10 TB is 640,000 segments: neither who writes their list nor who reads it holds
//! more of it than one page and 200 bytes for each page before.
//!
//! Alone in its program, because it counts every byte that the program allocates.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use drctl::{Limits, Meter, Outlet, segments};
use drctl_model::{
    BackupId, BackupKind, Dumped, Engine, Header, Manifest, RepositoryId, Segment, SourceId,
    Stream, StreamId,
};
use drctl_store::{Bucket, PageWriter, SEGMENT_BYTES, SigningKey, digest, encode_manifest};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// 10 TB in segments of 16 MiB.
const MANY: u64 = 640_000;

/// A small backup, of 320 GB, to compare with.
const FEW: u64 = 20_000;

/// What one page may cost for good, on either side.
const BYTES_A_PAGE: u64 = 200;

/// By how much two runs may differ for other reasons.
const SLACK: u64 = 64 << 10;

/// The segment that every side can tell from its number.
fn segment(n: u64) -> Segment {
    let sha256 = digest(&n.to_le_bytes());
    Segment { n, plain: SEGMENT_BYTES, sealed: SEGMENT_BYTES + 5_000, sha256 }
}

/// A store that keeps nothing: what is put is let go, and a page that is asked for is made again.
#[derive(Debug)]
struct Mill {
    per_page: u64,
}

impl fmt::Display for Mill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mill")
    }
}

#[async_trait]
impl ObjectStore for Mill {
    async fn put_opts(&self, at: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        assert!(at.as_ref().ends_with(".json"), "only pages are put: {at}");
        drop(payload);
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn get_opts(&self, at: &Path, _: GetOptions) -> Result<GetResult> {
        let name = at.filename().expect("a name");
        let number = name.strip_prefix('p').and_then(|name| name.strip_suffix(".json"));
        let first = number.expect("a page").parse::<u64>().expect("a number") * self.per_page;
        let list: Vec<Segment> = (first..first + self.per_page).map(segment).collect();
        let bytes = Bytes::from(serde_json::to_vec(&list).expect("segments are JSON"));
        let meta = ObjectMeta {
            location: at.clone(),
            last_modified: Default::default(),
            size: bytes.len() as u64,
            e_tag: None,
            version: None,
        };
        let range = 0..meta.size;
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        let (attributes, extensions) = (Default::default(), Default::default());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        unreachable!("nothing is listed")
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("nothing is listed")
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        unreachable!("nothing is deleted")
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("nothing is put in parts")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing is copied")
    }
}

fn names() -> (SourceId, BackupId, StreamId) {
    let source = "shop".parse().expect("a source");
    let backup = BackupId::new("2026-03-01T00:00:00Z".parse().expect("a time"), 7);
    (source, backup, StreamId::database(0))
}

/// The most bytes that were on the heap at once while `work` ran, above those at its start.
async fn peak<T>(work: impl Future<Output = T>) -> (u64, T) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let done = work.await;
    (HEAP.peak_usage().saturating_sub(before) as u64, done)
}

async fn write(bucket: &Bucket, count: u64, per_page: u64) -> Stream {
    let (source, backup, id) = names();
    let mut writer = PageWriter::new(&source, &backup, &id, SEGMENT_BYTES, per_page);
    for n in 0..count {
        writer.push(bucket, segment(n)).await.expect("push");
    }
    writer.finish()
}

async fn read(bucket: &Bucket, stream: &Stream) {
    let (source, backup, _) = names();
    let (limits, meter) = (Limits::default(), Meter::default());
    let outlet = Outlet { bucket: bucket.clone(), source, backup, limits, meter };
    let mut list = segments(&outlet, stream);
    let mut next = 0;
    while let Some(found) = list.try_next().await.expect("read") {
        assert!(found == segment(next), "segment {next} is {found:?}");
        next += 1;
    }
    assert_eq!(next, stream.segments);
}

/// The peaks of a writer and of a reader, and the stream that they made.
async fn both_sides(count: u64, per_page: u64) -> (u64, u64, Stream) {
    let bucket = Bucket::new(Arc::new(Mill { per_page }), "mill://");
    let (writing, stream) = peak(write(&bucket, count, per_page)).await;
    let (reading, ()) = peak(read(&bucket, &stream)).await;
    (writing, reading, stream)
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "what was measured")]
async fn neither_side_grows_with_the_number_of_segments() {
    for per_page in [64, 4096] {
        let (few_in, few_out, few) = both_sides(FEW, per_page).await;
        let (many_in, many_out, many) = both_sides(MANY, per_page).await;
        println!(
            "{per_page} a page: writing {few_in} B for {FEW} segments, {many_in} B for {MANY}; \
             reading {few_out} B and {many_out} B"
        );
        assert!((many.tail.len() as u64) < per_page, "{} are held", many.tail.len());
        assert_eq!(many.pages.len() as u64, MANY / per_page);
        let more = (many.pages.len() - few.pages.len()) as u64 * BYTES_A_PAGE + SLACK;
        assert!(many_in <= few_in + more, "writing: {few_in} B became {many_in} B");
        // The pages' names are in the manifest already.
        assert!(many_out <= few_out + SLACK, "reading: {few_out} B became {many_out} B");
        let page = per_page * 1_000 + SLACK;
        assert!(few_in <= page + more && few_out <= page, "a page: {few_in} B, {few_out} B");
    }
    manifest_stays_small().await;
}

/// Even with the longest tail there can be.
async fn manifest_stays_small() {
    let bucket = Bucket::new(Arc::new(Mill { per_page: 4096 }), "mill://");
    let stream = write(&bucket, MANY.next_multiple_of(4096) - 1, 4096).await;
    assert_eq!(stream.tail.len(), 4095);
    let (source, backup, _) = names();
    let time = "2026-03-01T00:00:00Z".parse().expect("a time");
    let manifest = Manifest {
        header: Header::new(["pg_dump"]),
        repository: RepositoryId::new(7),
        source,
        backup,
        host: "db1".to_owned(),
        engine: Engine::PgDump,
        kind: BackupKind::Logical(Dumped::default()),
        started: time,
        finished: time,
        tools: Default::default(),
        recipients: Vec::new(),
        children: Vec::new(),
        suspect: Vec::new(),
        before: Vec::new(),
        streams: vec![stream],
        sealed: String::new(),
    };
    manifest.check().expect("its numbers fit");
    let bytes = encode_manifest(&manifest, &SigningKey::generate()).len();
    assert!(bytes < 1 << 20, "the manifest has {bytes} bytes");
}
