//! A request by HTTP, sent once: bounded in time, and in what is read of the answer; followed nowhere.

use std::path::Path;
use std::time::Duration;

use drctl_store::use_ring;
use reqwest::{Certificate, StatusCode, Url};

use super::Undelivered;
use crate::host::{private, read_certificates};

/// What is sent, and where. The address may be a secret: it is never shown.
pub(crate) struct Request {
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// One with a JSON document.
    pub(crate) fn json(url: &str, object: &serde_json::Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Request { url: url.to_owned(), headers, body: object.to_string().into_bytes() }
    }
}

/// What sends requests of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    client: reqwest::Client,
    plain: bool,
}

impl Client {
    /// One that trusts the certificates in a file, beside those of the system. No request takes longer
    /// than `patience`.
    pub(crate) fn new(
        ca_file: Option<&Path>,
        plain: bool,
        patience: Duration,
    ) -> Result<Self, Undelivered> {
        let pem = authorities(ca_file)?;
        let authorities = pem.as_deref().map(Certificate::from_pem_bundle).transpose();
        let none = || Undelivered::at_all("ca_file holds no certificates");
        let authorities = authorities.map_err(|_| none())?;
        if authorities.as_ref().is_some_and(Vec::is_empty) {
            return Err(none());
        }
        use_ring();
        let client = reqwest::ClientBuilder::new()
            .user_agent(concat!("drctl/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(authorities.unwrap_or_default())
            .timeout(patience)
            .connect_timeout(patience)
            .https_only(!plain)
            // They are rare: no connection waits for the next.
            .pool_max_idle_per_host(0)
            .build();
        let client = client.map_err(|error| Undelivered::at_all(words(&error)))?;
        Ok(Client { client, plain })
    }

    /// An address to which it may send.
    pub(crate) fn address(&self, text: &str) -> Result<Url, Undelivered> {
        let url = Url::parse(text.trim());
        let url = url.map_err(|_| Undelivered::at_all("the secret `url` holds no address"))?;
        if url.scheme() != "https" && !(self.plain && url.scheme() == "http") {
            let why = "the address is not one of https://; allow_plain = true allows http://";
            return Err(Undelivered::at_all(why));
        }
        Ok(url)
    }

    /// Sends one. Of the answer only the status is read: whatever follows is nobody's memory.
    pub(crate) async fn send(&self, request: &Request) -> Result<(), Undelivered> {
        let url = self.address(&request.url)?;
        let mut sending = self.client.post(url).body(request.body.clone());
        for (name, value) in &request.headers {
            sending = sending.header(*name, value);
        }
        let answer = sending.send().await.map_err(|error| match error.is_builder() {
            true => Undelivered::at_all(words(&error)),
            false => Undelivered::now(words(&error)),
        })?;
        judged(answer.status())
    }
}

/// The certificates in a file that nobody else can have written.
pub(crate) fn authorities(ca_file: Option<&Path>) -> Result<Option<Vec<u8>>, Undelivered> {
    let Some(path) = ca_file else { return Ok(None) };
    let believed = private::believed(path, private::author(path));
    believed.map_err(|error| Undelivered::at_all(format!("{error:#}")))?;
    let read = read_certificates(path);
    let failed = |error| Undelivered::at_all(format!("read {}: {error}", path.display()));
    read.map(Some).map_err(failed)
}

/// What a status says: of the client's faults only "too many" and "too late" pass by themselves.
fn judged(status: StatusCode) -> Result<(), Undelivered> {
    let why = format!("the answer was {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(Undelivered::at_all(format!("{why}: redirects are not followed"))),
        408 | 429 | 500..=599 => Err(Undelivered::now(why)),
        _ => Err(Undelivered::at_all(why)),
    }
}

/// What went wrong, with its causes and without the address.
fn words(error: &reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (_, true) => "no connection".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(next) = cause {
        last = Some(next.to_string());
        cause = next.source();
    }
    if let Some(last) = last.filter(|_| !error.is_timeout()) {
        text = format!("{text}: {}", drctl_model::shown(&last, 200));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again_and_nothing_else() {
        let again = |status: u16| {
            let judged = judged(StatusCode::from_u16(status).unwrap());
            judged.err().map(|undelivered| undelivered.again)
        };
        assert_eq!([200, 202, 204].map(again), [None; 3]);
        assert_eq!([408, 429, 500, 503].map(again), [Some(true); 4]);
        assert_eq!([302, 400, 401, 404, 410].map(again), [Some(false); 5]);
    }
}
