//! A server of our own that answers as scripted, or never.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a request gets.
pub enum Reply {
    /// These bytes, and the connection is closed.
    Whole(Vec<u8>),
    /// These bytes, and then nothing more; the connection stays open.
    Stalls(Vec<u8>),
    /// These bytes, and then one byte after such a pause each time, for as long as the client stays.
    Trickles(Vec<u8>, Duration),
}

impl Reply {
    /// A whole answer: its status, more header lines (each with its end) and its body.
    #[must_use]
    pub fn new(status: &str, headers: &str, body: &str) -> Reply {
        let length = body.len();
        Reply::Whole(
            format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    /// An object of S3 that is said to have `length` bytes, of which `body` are sent.
    #[must_use]
    pub fn object(length: u64, body: &str) -> Reply {
        Reply::Stalls(
            format!(
                "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Sun, 01 Mar 2026 00:00:00 GMT\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }
}

/// What came.
pub struct Heard {
    /// The request line and the header lines, without the empty line at the end.
    pub head: String,
    /// What followed them.
    pub body: Vec<u8>,
}

impl Heard {
    /// The answer of a server behind, to which it is sent on.
    ///
    /// # Panics
    /// If there is no server on this port of 127.0.0.1.
    #[must_use]
    pub fn forwarded(&self, port: u16) -> Reply {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        let head = format!("{}\r\nconnection: close\r\n\r\n", self.head);
        stream.write_all(head.as_bytes()).expect("send on");
        stream.write_all(&self.body).expect("send on");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        Reply::Whole(answer)
    }
}

type Script = dyn Fn(&Heard) -> Reply + Send + Sync;

/// The server: takes no more connections when dropped.
pub struct Scripted {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

impl Scripted {
    /// Answers every request by what `script` makes of it.
    ///
    /// # Panics
    /// If there is no port on 127.0.0.1.
    pub fn start(script: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Scripted {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (heads, ended) = (Arc::default(), Arc::<AtomicBool>::default());
        let (script, noted, end) = (Arc::new(script), Arc::clone(&heads), Arc::clone(&ended));
        thread::spawn(move || serve(&listener, script, &noted, &end));
        Scripted { port, heads, ended }
    }

    /// Takes requests and never answers.
    #[must_use]
    pub fn silent() -> Scripted {
        Scripted::start(|_| Reply::Stalls(Vec::new()))
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The heads of all requests so far, in lower case.
    ///
    /// # Panics
    /// If a thread of it did.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panics while held").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn serve(
    listener: &TcpListener,
    script: Arc<Script>,
    heads: &Arc<Mutex<Vec<String>>>,
    ended: &AtomicBool,
) {
    loop {
        let (stream, _) = listener.accept().expect("accept");
        if ended.load(Ordering::SeqCst) {
            return;
        }
        let (script, heads) = (Arc::clone(&script), Arc::clone(heads));
        thread::spawn(move || talk(stream, &*script, &heads));
    }
}

fn talk(mut stream: TcpStream, script: &Script, heads: &Mutex<Vec<String>>) {
    let Some(request) = read_request(&mut stream) else { return };
    heads.lock().expect("no panics while held").push(request.head.to_lowercase());
    // A client that does not wait for all of it is no concern of ours.
    match script(&request) {
        Reply::Whole(bytes) => {
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
        }
        Reply::Trickles(bytes, pause) => {
            let _ = stream.write_all(&bytes);
            let _ = stream.set_read_timeout(Some(pause));
            // Of a client that stays nothing comes; one that goes is read to its end.
            while stream.read(&mut [0; 64]).map_or(true, |read| read > 0) {
                if stream.write_all(b"x").is_err() {
                    return;
                }
            }
        }
        Reply::Stalls(bytes) => {
            let _ = stream.write_all(&bytes);
            // Open until the client goes.
            while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        }
    }
}

/// Reads a request to its end.
fn read_request(stream: &mut TcpStream) -> Option<Heard> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let whole = end + 4 + content_length(&head);
            if bytes.len() < whole {
                let start = bytes.len();
                bytes.resize(whole, 0);
                stream.read_exact(&mut bytes[start..]).ok()?;
            }
            return Some(Heard { head, body: bytes.split_off(end + 4) });
        }
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn content_length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, length)| length.trim().parse().expect("a length"))
}
