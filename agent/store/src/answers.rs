//! A store's answers, looked at before its client reads them: one that is asked for a listing must be
//! one. A client takes a page of something else, as the login of a proxy, for an empty bucket. What a
//! client would read as a whole is bounded: it would make room for as much as is announced. And one that
//! sends a request to another place is not followed: it would lead signatures and data there.

use std::time::Duration;

use async_trait::async_trait;
use drctl_model::shown;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpService,
};

use crate::bounded::whole;
use crate::location::Options;

/// In so many of its first bytes a listing says that it is one.
const BEGINNING: usize = 1024;

/// What answers is no bucket.
#[derive(Debug, thiserror::Error)]
#[error("what answers is no listing of a bucket")]
pub(crate) struct NoListing;

/// The endpoint sends a request to another place.
#[derive(Debug, thiserror::Error)]
#[error(
    "the endpoint answered {status} and sends this request to {to}, which is not followed{region}"
)]
pub(crate) struct Elsewhere {
    status: u16,
    to: String,
    region: String,
}

impl Elsewhere {
    /// Whether an answer does so: by its status, and the header of a name.
    pub(crate) fn of<'a>(
        status: u16,
        header: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Option<Elsewhere> {
        if !matches!(status, 300..=303 | 305..=308) {
            return None;
        }
        let to = header("location").map_or("another place".to_owned(), |to| shown(to, SHOWN));
        let region = header("x-amz-bucket-region").map_or(String::new(), |region| {
            format!(" (it says that the bucket is in the region {})", shown(region, SHOWN))
        });
        Some(Elsewhere { status, to, region })
    }
}

/// How much is shown of what an endpoint says.
const SHOWN: usize = 200;

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// The same where a machine is asked for its own credentials, of which most have none.
const CONNECT_MACHINE: Duration = Duration::from_secs(1);

/// Makes clients whose answers are looked at, and that follow none to another place.
#[derive(Debug)]
pub(crate) struct Answers {
    authorities: Vec<reqwest::Certificate>,
    request_timeout: Duration,
}

impl Answers {
    pub(crate) fn new(options: &Options) -> reqwest::Result<Self> {
        let pem = options.ca_pem.as_deref();
        let authorities = pem.map(reqwest::Certificate::from_pem_bundle).transpose()?;
        let request_timeout = options.request_timeout;
        Ok(Answers { authorities: authorities.unwrap_or_default(), request_timeout })
    }

    /// As object_store makes its own, of these options, and with another policy.
    fn client(&self, options: &ClientOptions) -> reqwest::Result<reqwest::Client> {
        let set = |key| options.get_config_value(&key);
        let connect = if asks_machine(options) { CONNECT_MACHINE } else { CONNECT };
        reqwest::ClientBuilder::new()
            .user_agent(concat!("drctl/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(self.authorities.iter().cloned())
            .timeout(self.request_timeout)
            .connect_timeout(connect)
            // Lengths are those of the objects.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .https_only(set(ClientConfigKey::AllowHttp).as_deref() != Some("true"))
            .build()
    }
}

/// Whether a client of these options asks a machine for its own credentials.
fn asks_machine(options: &ClientOptions) -> bool {
    let usual = ClientOptions::new().with_connect_timeout(CONNECT);
    let timeout = |of: &ClientOptions| of.get_config_value(&ClientConfigKey::ConnectTimeout);
    timeout(options) != timeout(&usual)
}

impl HttpConnector for Answers {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.client(options).map_err(|error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(error),
        })?;
        let (client, machine) = (HttpClient::new(client), asks_machine(options));
        Ok(HttpClient::new(Looked { client, machine }))
    }
}

#[derive(Debug)]
struct Looked {
    client: HttpClient,
    /// Whether it is asked for credentials, and never for an object.
    machine: bool,
}

#[async_trait]
impl HttpService for Looked {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let listing = listing(request.uri().query().unwrap_or_default());
        let (get, head) = (request.method() == "GET", request.method() == "HEAD");
        let answer = self.client.execute(request).await?;
        let header = |name| answer.headers().get(name)?.to_str().ok();
        if let Some(elsewhere) = Elsewhere::of(answer.status().as_u16(), header) {
            return Err(HttpError::new(HttpErrorKind::Decode, elsewhere));
        }
        let good = answer.status().is_success();
        // An object is read piece by piece, and whoever reads it knows its bound.
        if get && good && listing.is_none() && !self.machine {
            return Ok(answer);
        }
        // Without a body the length is that of the object.
        let length = header("content-length").filter(|_| !head).map(str::to_owned);
        let (head, body) = answer.into_parts();
        let body = whole(body, length.as_deref()).await?;
        match listing.filter(|_| good).is_none_or(|root| is_listing(&body, root)) {
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
    fn only_what_leads_elsewhere_is_told_as_that() {
        let none = |_| None;
        for status in [200, 204, 304, 403, 404, 500] {
            assert!(Elsewhere::of(status, none).is_none(), "{status}");
        }
        let moved = |name| (name == "x-amz-bucket-region").then_some("eu-north-1\u{202e}");
        let said = Elsewhere::of(301, moved).unwrap().to_string();
        assert!(said.contains("301") && said.contains("eu-north-1\\u{202e}"), "{said}");
    }

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
