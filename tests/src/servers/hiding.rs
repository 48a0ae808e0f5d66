//! A gate before MinIO that lists as AWS does: folders in which only delete markers are left are
//! not in a plain listing.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aws_sdk_s3::Client;

use super::minio::Minio;

/// The gate: takes no more connections when dropped.
pub struct Hiding {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Hiding {
    /// Before a server, for one bucket of it.
    ///
    /// # Panics
    /// If there is no port on 127.0.0.1.
    #[must_use]
    pub fn before(minio: &Minio, bucket: &str) -> Hiding {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let ended = Arc::<AtomicBool>::default();
        let (end, behind, client) = (Arc::clone(&ended), minio.port(), minio.client());
        let bucket = bucket.to_owned();
        thread::spawn(move || {
            for connection in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (client, bucket) = (client.clone(), bucket.clone());
                thread::spawn(move || serve(connection, behind, &client, &bucket));
            }
        });
        Hiding { port, ended }
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Hiding {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for the next connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// One request on a connection; a client that wants more connects again.
fn serve(mut from: TcpStream, behind: u16, client: &Client, bucket: &str) {
    let Some((head, body)) = message(&mut from) else { return };
    let Ok(mut to) = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)) else { return };
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = without(&head, "connection") + "connection: close\r\n\r\n";
    if to.write_all(head.as_bytes()).and_then(|()| to.write_all(&body)).is_err() {
        return;
    }
    let mut answer = Vec::new();
    if to.read_to_end(&mut answer).is_err() {
        return;
    }
    if target.contains("list-type=2") && target.contains("delimiter=") {
        answer = hide(&answer, client, bucket).unwrap_or(answer);
    }
    let _ = from.write_all(&answer).and_then(|()| from.shutdown(Shutdown::Both));
}

/// A head with its last line's end, and a body.
fn message(from: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65_536]);
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at + 2].to_vec()).ok()?;
            let length = header(&head, "content-length").and_then(|text| text.parse().ok());
            let whole = at + 4 + length.unwrap_or(0);
            while bytes.len() < whole {
                let read = from.read(&mut buffer).ok().filter(|read| *read > 0)?;
                bytes.extend_from_slice(&buffer[..read]);
            }
            return Some((head, bytes[at + 4..].to_vec()));
        }
        let read = from.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

fn without(head: &str, name: &str) -> String {
    let is_it =
        |line: &str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
    head.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\r\n")).collect()
}

/// The same listing without the folders in which nothing is live.
fn hide(answer: &[u8], client: &Client, bucket: &str) -> Option<Vec<u8>> {
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..at + 2].to_vec()).ok()?;
    let body = match header(&head, "transfer-encoding") {
        Some(_) => joined(&answer[at + 4..])?,
        None => answer[at + 4..].to_vec(),
    };
    let text = String::from_utf8(body).ok()?;
    let (open, close) = ("<CommonPrefixes>", "</CommonPrefixes>");
    let mut kept = String::new();
    let mut parts = text.split(open);
    kept.push_str(parts.next()?);
    for part in parts {
        let (folder, rest) = part.split_once(close)?;
        let name = folder.split_once("<Prefix>")?.1.split_once("</Prefix>")?.0;
        if is_live(client, bucket, name) {
            kept.push_str(&[open, folder, close].concat());
        }
        kept.push_str(rest);
    }
    let head = without(&without(&head, "transfer-encoding"), "content-length");
    let length = kept.len();
    Some(format!("{head}content-length: {length}\r\n\r\n{kept}").into_bytes())
}

fn is_live(client: &Client, bucket: &str, prefix: &str) -> bool {
    let request = client.list_objects_v2().bucket(bucket).prefix(prefix).max_keys(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let listed = runtime.expect("a runtime").block_on(request.send()).expect("list");
    !listed.contents().is_empty()
}

/// The body of chunks.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunks.get(end + 2..end + 2 + size)?);
        chunks = chunks.get(end + 4 + size..)?;
    }
}
