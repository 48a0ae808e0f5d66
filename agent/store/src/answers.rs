//! A store's answers, looked at before its client reads them: one that is asked for a listing must be
//! one. A client takes a page of something else, as the login of a proxy, for an empty bucket.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// In so many of its first bytes a listing says that it is one.
const BEGINNING: usize = 1024;

/// What answers is no bucket.
#[derive(Debug, thiserror::Error)]
#[error("what answers is no listing of a bucket")]
pub(crate) struct NoListing;

/// Makes clients whose answers are looked at.
#[derive(Debug, Default)]
pub(crate) struct Answers(ReqwestConnector);

impl HttpConnector for Answers {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Looked(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Looked(HttpClient);

#[async_trait]
impl HttpService for Looked {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let listing = listing(request.uri().query().unwrap_or_default());
        let answer = self.0.execute(request).await?;
        let Some(root) = listing.filter(|_| answer.status().is_success()) else {
            return Ok(answer);
        };
        let (head, body) = answer.into_parts();
        let body = body.bytes().await?;
        match is_listing(&body, root) {
            true => Ok(HttpResponse::from_parts(head, body.into())),
            false => Err(HttpError::new(HttpErrorKind::Decode, NoListing)),
        }
    }
}

/// The name of the document that answers a request, where that is for a listing.
fn listing(query: &str) -> Option<&'static str> {
    let asks = |what: &str| query.split('&').any(|part| part == what);
    if asks("list-type=2") {
        Some("ListBucketResult")
    } else {
        asks("comp=list").then_some("EnumerationResults")
    }
}

fn is_listing(body: &[u8], root: &str) -> bool {
    let beginning = &body[..body.len().min(BEGINNING)];
    beginning.windows(root.len()).any(|part| part == root.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listing_answers_for_one() {
        assert_eq!(listing("list-type=2&prefix=s"), Some("ListBucketResult"));
        assert_eq!(listing("restype=container&comp=list"), Some("EnumerationResults"));
        assert_eq!(listing("versioning"), None);
        let page = b"<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name></ListBucketResult>";
        assert!(is_listing(page, "ListBucketResult"));
        for other in [&b"<html>ListBucket</html>"[..], b"", b"{}"] {
            assert!(!is_listing(other, "ListBucketResult"));
        }
    }
}
