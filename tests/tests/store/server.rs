//! A server of our own that answers as scripted, or never.

use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a request gets.
pub(crate) enum Answer {
    /// These bytes, and the connection is closed.
    Whole(Vec<u8>),
    /// These bytes, and then nothing more; the connection stays open.
    Stalls(Vec<u8>),
}

impl Answer {
    /// A whole answer: its status, more header lines (each with its end) and its body.
    pub(crate) fn new(status: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        Answer::Whole(
            format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    /// An object of S3 that is said to have `length` bytes, of which `body` are sent.
    pub(crate) fn object(length: u64, body: &str) -> Answer {
        Answer::Stalls(
            format!(
                "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Sun, 01 Mar 2026 00:00:00 GMT\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }
}

/// What came.
pub(crate) struct Request {
    /// The request line and the header lines, without the empty line at the end.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server: ends when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers every request by what `script` makes of it.
    pub(crate) async fn start(
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let heads = Arc::default();
        let task = tokio::spawn(serve(listener, Arc::new(script), Arc::clone(&heads)));
        Server { port, heads, task }
    }

    /// Takes requests and never answers.
    pub(crate) async fn silent() -> Server {
        Server::start(|_| Answer::Stalls(Vec::new())).await
    }

    /// The heads of all requests so far, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panics while held").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>, heads: Arc<Mutex<Vec<String>>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        tokio::spawn(talk(stream, Arc::clone(&script), Arc::clone(&heads)));
    }
}

async fn talk(mut stream: TcpStream, script: Arc<Script>, heads: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read_request(&mut stream).await else { return };
    heads.lock().expect("no panics while held").push(request.head.to_lowercase());
    let answer = tokio::task::block_in_place(|| script(&request));
    // A client that does not wait for all of it is no concern of ours.
    match answer {
        Answer::Whole(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Answer::Stalls(bytes) => {
            let _ = stream.write_all(&bytes).await;
            // Open until the client goes.
            while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        }
    }
}

/// Reads a request to its end.
async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            if bytes.len() >= end + 4 + content_length(&head) {
                return Some(Request { head, body: bytes.split_off(end + 4) });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn content_length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, length)| length.trim().parse().expect("a length"))
}

/// fake-gcs-server as Google would answer: a gateway in front of it.
///
/// It takes a plain `PUT` of an object only when it looks like one to a signed URL, and answers
/// it without the entity tag that every client asks for.
pub(crate) async fn gcs_gateway(port: u16) -> Server {
    Server::start(move |request| forward(port, request).expect("the server behind answers")).await
}

fn forward(port: u16, request: &Request) -> io::Result<Answer> {
    let (line, headers) = request.head.split_once("\r\n").unwrap_or((&request.head, ""));
    let is_put = line.starts_with("PUT ");
    let line = if is_put {
        line.replace(" HTTP/1.1", "?X-Goog-Algorithm=none HTTP/1.1")
    } else {
        line.to_owned()
    };
    let dropped = |header: &&str| {
        let name = header.split(':').next().unwrap_or_default().to_lowercase();
        name != "host" && name != "connection"
    };
    let mut head = format!("{line}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for header in headers.lines().filter(dropped) {
        head += &format!("{header}\r\n");
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(&[head.as_bytes(), b"\r\n", &request.body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let first = answer.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if is_put {
        answer.splice(first..first, *b"ETag: \"e\"\r\n");
    }
    Ok(Answer::Whole(answer))
}
