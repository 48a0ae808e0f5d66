//! One plain HTTP request, enough to prepare a store on 127.0.0.1.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// The body, as sent.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, if the status says success.
    ///
    /// # Panics
    /// When it says anything else; `what` was wanted.
    pub(super) fn expect(self, what: &str) -> Vec<u8> {
        let said = String::from_utf8_lossy(&self.body);
        assert!((200..300).contains(&self.status), "{what}: {} {said}", self.status);
        self.body
    }
}

/// A request to a server on 127.0.0.1.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) port: u16,
    pub(super) method: &'a str,
    /// The path with its query, both encoded.
    pub(super) target: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

impl Request<'_> {
    /// Sends it and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no server, or none that speaks HTTP.
    pub(super) fn send(&self) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(self.head().as_bytes())?;
        stream.write_all(self.body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))
    }

    /// HTTP/1.0: the server then neither keeps the connection nor cuts its answer into chunks.
    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.0\r\n", self.method, self.target);
        head += &format!("Host: 127.0.0.1:{}\r\n", self.port);
        head += &format!("Content-Length: {}\r\n", self.body.len());
        for (name, value) in self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: answer[end + 4..].to_vec() })
}
