//! A store that fails on cue: scripted, never random. For tests.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::sync::Notify;

/// Which request a fault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Writing an object.
    Put,
    /// Reading an object.
    Get,
    /// Listing.
    List,
    /// Removing an object.
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done, and an error returned that may pass.
    Refused,
    /// All is done, and an error returned.
    AnswerLost,
    /// All is done, and then the answer is that the object exists: what a client sees that
    /// repeats its own request after a 5xx.
    AnsweredExists,
    /// The request waits until it is told to go on.
    Slow(Arc<Notify>),
    /// Only the first half arrives: a put stores half and says yes, a get delivers half.
    Truncated,
    /// One byte is another: a put stores it and says yes, a get delivers it.
    Corrupted,
    /// The credentials have expired.
    Expired,
    /// The disk is full.
    Full,
}

struct Rule {
    verb: Verb,
    key: String,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// An object store in front of another, with a script of faults.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    rules: Vec<Rule>,
    log: VecDeque<(Verb, Path)>,
}

impl FaultStore {
    /// A store without faults so far.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        FaultStore { inner, script: Arc::default() }
    }

    /// Adds a fault: `times` requests of this verb whose key contains `key` fail, after `skip` of
    /// them went well.
    pub fn on(&self, verb: Verb, key: &str, skip: usize, times: usize, fault: Fault) {
        let rule = Rule { verb, key: key.to_owned(), skip, times, fault };
        self.script.lock().expect("no panics while held").rules.push(rule);
    }

    /// Takes all faults out.
    pub fn heal(&self) {
        self.script.lock().expect("no panics while held").rules.clear();
    }

    /// How many requests of this verb there were whose key contains `key`.
    #[must_use]
    pub fn count(&self, verb: Verb, key: &str) -> usize {
        let script = self.script.lock().expect("no panics while held");
        script.log.iter().filter(|(v, path)| *v == verb && path.as_ref().contains(key)).count()
    }

    fn cue(&self, verb: Verb, path: &Path) -> Option<Fault> {
        let mut script = self.script.lock().expect("no panics while held");
        script.log.push_back((verb, path.clone()));
        let rules = script.rules.iter_mut();
        for rule in rules.filter(|r| r.verb == verb && path.as_ref().contains(&r.key)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

fn refused(path: &Path) -> object_store::Error {
    object_store::Error::Generic { store: "fault", source: format!("scripted: {path}").into() }
}

fn immediate(fault: &Fault, path: &Path) -> Option<object_store::Error> {
    let path = path.to_string();
    match fault {
        Fault::Refused => Some(refused(&Path::from(path))),
        Fault::Expired => Some(object_store::Error::Unauthenticated {
            path,
            source: "scripted: ExpiredToken".into(),
        }),
        Fault::Full => Some(object_store::Error::Generic {
            store: "fault",
            source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
        }),
        _ => None,
    }
}

fn spoil(fault: &Fault, bytes: &Bytes) -> Bytes {
    match fault {
        Fault::Truncated => bytes.slice(..bytes.len() / 2),
        Fault::Corrupted if !bytes.is_empty() => {
            let mut altered = bytes.to_vec();
            let middle = altered.len() / 2;
            altered[middle] ^= 1;
            altered.into()
        }
        _ => bytes.clone(),
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        let Some(fault) = self.cue(Verb::Put, at) else {
            return self.inner.put_opts(at, payload, o).await;
        };
        if let Some(error) = immediate(&fault, at) {
            return Err(error);
        }
        if let Fault::Slow(gate) = &fault {
            gate.notified().await;
        }
        let bytes = spoil(&fault, &Bytes::from(payload));
        let done = self.inner.put_opts(at, PutPayload::from_bytes(bytes), o).await;
        match fault {
            Fault::AnswerLost => Err(refused(at)),
            Fault::AnsweredExists => Err(object_store::Error::AlreadyExists {
                path: at.to_string(),
                source: "scripted".into(),
            }),
            _ => done,
        }
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let Some(fault) = self.cue(Verb::Get, at) else {
            return self.inner.get_opts(at, options).await;
        };
        if let Some(error) = immediate(&fault, at) {
            return Err(error);
        }
        if let Fault::Slow(gate) = &fault {
            gate.notified().await;
        }
        let mut found = self.inner.get_opts(at, options).await?;
        let (meta, range, attributes) =
            (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let extensions = std::mem::take(&mut found.extensions);
        if matches!(fault, Fault::AnswerLost) {
            return Err(refused(at));
        }
        let bytes = spoil(&fault, &found.bytes().await?);
        let payload = GetResultPayload::Stream(futures_util::stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        match self.cue(Verb::List, &at).and_then(|fault| immediate(&fault, &at)) {
            Some(error) => futures_util::stream::iter([Err(error)]).boxed(),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        match self.cue(Verb::List, &at).and_then(|fault| immediate(&fault, &at)) {
            Some(error) => Err(error),
            None => self.inner.list_with_delimiter(prefix).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |at| {
                let this = this.clone();
                async move {
                    match this.cue(Verb::Delete, &at).and_then(|f| immediate(&f, &at)) {
                        Some(error) => Err(error),
                        None => this.inner.delete(&at).await.map(|()| at),
                    }
                }
            })
            .boxed()
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused(at))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
