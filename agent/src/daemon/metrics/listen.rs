//! Answers scrapes: `GET /metrics`, and `GET /healthz` for whoever only asks whether the agent lives.
//! Few at once, each for a short time, whatever a peer does.

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::Reader;

/// How many are served at once; others wait.
const AT_ONCE: usize = 64;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the head of a request may take in all: whoever dawdles keeps a place from others.
const HEAD_WITHIN: Duration = Duration::from_secs(2);

/// The most that is read of a request's head, in bytes: the least that hyper takes.
const HEAD: usize = 8 << 10;

/// How long it is until an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// What OpenMetrics text is called.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves for ever. The agent does without where the address is taken: backups matter more.
pub(super) async fn serve(address: SocketAddr, reader: Arc<Reader>) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                reader.listens(None);
                accept(&listener, &reader).await;
            }
            Err(error) => {
                let why = format!("metrics are not told at {address}: {error}");
                tracing::error!("{why}; tried again in half a minute");
                reader.listens(Some(format!(
                    "{why}. It is tried every half minute: stop what listens there, or set \
                     `[agent] metrics` to another port"
                )));
                sleep_until(Instant::now() + AGAIN).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener, reader: &Arc<Reader>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((peer, _)) => {
                let reader = Arc::clone(reader);
                tokio::spawn(async move {
                    // A peer that went away, or was too slow, is none of our concern.
                    let _ = timeout(PATIENCE, answer_all(peer, &reader)).await;
                    drop(place);
                });
            }
            // Such as too many open files: it passes, and must not be asked for in a circle.
            Err(error) => {
                tracing::debug!("a scrape was not taken: {error}");
                sleep_until(Instant::now() + Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer_all(peer: TcpStream, reader: &Arc<Reader>) -> Result<(), hyper::Error> {
    let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&request, reader))));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(peer), service)
        .await
}

fn answer(request: &Request<Incoming>, reader: &Arc<Reader>) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let mut response = Response::new(Full::from(reader.text()));
            let kind = hyper::header::HeaderValue::from_static(OPEN_METRICS);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        (&Method::GET, "/healthz") => match reader.amiss() {
            None => plain(StatusCode::OK, "the agent works\n"),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        (&Method::GET, _) => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n"),
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
    }
}
