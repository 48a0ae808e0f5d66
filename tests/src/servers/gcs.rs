//! fake-gcs-server: Google Cloud Storage's JSON API, in memory.
//!
//! It puts, gets and lists; it ignores conditions (`ifGenerationMatch`), so it proves nothing
//! about create-only puts.

use std::io::{self, Read as _, Write as _};

use serde_json::json;

use super::component;
use super::http::{Answer, Request};
use super::port::on_free_port;
use super::process::{End, Process, StartError, bound};
use super::scripted::{Heard, Reply, Scripted};

/// A running fake-gcs-server. Ends when dropped, its objects with it.
#[derive(Debug)]
pub struct FakeGcs {
    port: u16,
    process: Process,
}

impl FakeGcs {
    /// Starts one without any bucket.
    ///
    /// # Panics
    /// When it is not installed or does not get ready.
    pub fn start() -> FakeGcs {
        let (port, process) = on_free_port(run);
        FakeGcs { port, process }
    }

    /// Where it listens, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A service account file for clients that read the endpoint from it, such as `object_store`.
    pub fn service_account(&self) -> String {
        json!({
            "gcs_base_url": self.endpoint(),
            "disable_oauth": true,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        })
        .to_string()
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_bucket(&self, name: &str) {
        let body = json!({ "name": name }).to_string();
        self.ask("POST", "/storage/v1/b", body.as_bytes()).expect("make a bucket");
    }

    /// Puts an object; `name` must need no encoding in a URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn put(&self, bucket: &str, name: &str, bytes: &[u8]) {
        let target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}");
        self.ask("POST", &target, bytes).expect("put an object");
    }

    /// Gets an object: 404 if there is none.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn get(&self, bucket: &str, name: &str) -> Answer {
        let name = name.replace('/', "%2F");
        self.ask("GET", &format!("/storage/v1/b/{bucket}/o/{name}?alt=media"), b"")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// It as Google would answer: a gateway in front of it.
    ///
    /// It takes a plain `PUT` of an object only when it looks like one to a signed URL, and
    /// answers it without the entity tag that every client asks for.
    pub fn gateway(&self) -> Scripted {
        let port = self.port;
        Scripted::start(move |request| forward(port, request).expect("the server behind answers"))
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn ask(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let headers = [("Content-Type", "application/json")];
        let request = Request { port: self.port, method, target, headers: &headers, body };
        request.send().unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }
}

fn forward(port: u16, request: &Heard) -> io::Result<Reply> {
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
    Ok(Reply::Whole(answer))
}

fn run(port: u16) -> Result<Process, StartError> {
    let mut command = bound(component::built("fake-gcs-server"), End::Kill, None);
    command.args(["-scheme", "http", "-host", "127.0.0.1", "-backend", "memory"]);
    command.args(["-port", &port.to_string(), "-public-host", &format!("127.0.0.1:{port}")]);
    command.args(["-external-url", &format!("http://127.0.0.1:{port}")]);
    Process::start(command, End::Kill, "server started at")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::port::hold_port;

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        let (_held, port) = hold_port();
        let error = run(port).unwrap_err();
        assert!(error.port_is_taken(), "{error}");
    }
}
