//! A store whose listings end: each page leads on, behind the one before.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::{DELIMITER, Path};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How many pages in a row may hold nothing and say that there is more.
const EMPTY_PAGES: u32 = 100;

/// A listing that does not go on.
#[derive(Debug, thiserror::Error)]
#[error("the listing does not end: its pages repeat, or hold nothing and say that there is more")]
pub(crate) struct Endless;

impl Endless {
    fn error() -> object_store::Error {
        object_store::Error::Generic { store: "bucket", source: Box::new(Endless) }
    }
}

/// A store in the cloud, with listings of our own.
#[derive(Debug)]
pub(crate) struct Listing<S> {
    store: Arc<S>,
    /// Whether its keys come in the order of their bytes.
    ordered: bool,
}

/// Where a listing has come to.
#[derive(Debug, Default)]
struct Place {
    token: Option<String>,
    /// The first and the last key of the page before.
    before: Option<(String, String)>,
    empty: u32,
    ended: bool,
}

impl Place {
    /// Goes on behind a page, if that leads on itself.
    fn turn(&mut self, page: &ListResult, token: Option<String>, ordered: bool) -> Result<()> {
        let objects = page.objects.iter().map(|object| object.location.to_string());
        let folders = page.common_prefixes.iter().map(|folder| format!("{folder}{DELIMITER}"));
        let keys: Vec<String> = objects.chain(folders).collect();
        match (keys.iter().min(), keys.iter().max()) {
            (Some(first), Some(last)) => {
                let repeats = self.before.as_ref().is_some_and(|(first_before, last_before)| {
                    first == first_before || ordered && first <= last_before
                });
                if repeats {
                    return Err(Endless::error());
                }
                self.before = Some((first.clone(), last.clone()));
                self.empty = 0;
            }
            _ => self.empty += 1,
        }
        let token = token.filter(|token| !token.is_empty());
        if token.is_some() && (token == self.token || self.empty > EMPTY_PAGES) {
            return Err(Endless::error());
        }
        self.ended = token.is_none();
        self.token = token;
        Ok(())
    }
}

impl<S: ObjectStore + PaginatedListStore> Listing<S> {
    pub(crate) fn new(store: Arc<S>, ordered: bool) -> Self {
        Listing { store, ordered }
    }

    fn pages(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
        folders: bool,
    ) -> BoxStream<'static, Result<ListResult>> {
        let (store, ordered) = (Arc::clone(&self.store), self.ordered);
        let prefix = prefix.filter(|prefix| !prefix.as_ref().is_empty());
        let prefix = prefix.map(|prefix| format!("{prefix}{DELIMITER}"));
        let offset = offset.map(ToString::to_string);
        let asked = (store, prefix, offset, Place::default());
        stream::try_unfold(asked, move |(store, prefix, offset, mut place)| async move {
            if place.ended {
                return Ok(None);
            }
            let options = PaginatedListOptions {
                offset: offset.clone(),
                delimiter: folders.then_some(Cow::Borrowed(DELIMITER)),
                page_token: place.token.clone(),
                ..PaginatedListOptions::default()
            };
            let page = store.list_paginated(prefix.as_deref(), options).await?;
            let PaginatedListResult { result, page_token } = page;
            place.turn(&result, page_token, ordered)?;
            Ok(Some((result, (store, prefix, offset, place))))
        })
        .boxed()
    }
}

/// The objects of pages, one by one.
fn objects(
    pages: BoxStream<'static, Result<ListResult>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    pages.map_ok(|page| stream::iter(page.objects.into_iter().map(Ok))).try_flatten().boxed()
}

impl<S: fmt::Display> fmt::Display for Listing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl<S: ObjectStore + PaginatedListStore> ObjectStore for Listing<S> {
    async fn put_opts(&self, at: &Path, payload: PutPayload, o: PutOptions) -> Result<PutResult> {
        self.store.put_opts(at, payload, o).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        objects(self.pages(prefix, None, false))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let pages = self.pages(prefix, Some(offset), false);
        // Not every server can begin behind a key.
        let offset = offset.clone();
        let behind = move |object: &ObjectMeta| std::future::ready(object.location > offset);
        objects(pages).try_filter(behind).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut pages = self.pages(prefix, None, true);
        let Some(mut all) = pages.try_next().await? else { return Err(Endless::error()) };
        while let Some(page) = pages.try_next().await? {
            all.common_prefixes.extend(page.common_prefixes);
            all.objects.extend(page.objects);
        }
        Ok(all)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(folders: &[&str]) -> ListResult {
        let common_prefixes = folders.iter().map(|folder| Path::from(*folder)).collect();
        ListResult { common_prefixes, objects: Vec::new(), extensions: Default::default() }
    }

    #[test]
    fn a_page_that_does_not_lead_on_ends_a_listing() {
        let token = |token: &str| Some(token.to_owned());
        type Case<'a> = (&'a str, Vec<(ListResult, Option<String>)>, bool, bool);
        let cases: Vec<Case<'_>> = vec![
            ("one page", vec![(page(&["a"]), None)], true, true),
            ("an empty token", vec![(page(&["a"]), token(""))], true, true),
            ("two", vec![(page(&["a"]), token("1")), (page(&["b"]), None)], true, true),
            ("no order", vec![(page(&["b"]), token("1")), (page(&["a"]), None)], false, true),
            ("backwards", vec![(page(&["b"]), token("1")), (page(&["a"]), None)], true, false),
            ("again", vec![(page(&["a"]), token("1")), (page(&["a"]), token("2"))], false, false),
            (
                "one token",
                vec![(page(&["a"]), token("1")), (page(&["b"]), token("1"))],
                true,
                false,
            ),
            ("empty, then more", vec![(page(&[]), token("1")), (page(&["b"]), None)], true, true),
            ("empty", (0..200).map(|n| (page(&[]), Some(n.to_string()))).collect(), true, false),
        ];
        for (name, pages, ordered, good) in cases {
            let mut place = Place::default();
            let mut turn = |(page, token)| place.turn(&page, token, ordered);
            assert_eq!(pages.into_iter().try_for_each(&mut turn).is_ok(), good, "{name}");
        }
    }
}
