//! Azurite: Azure Blob Storage, which enforces conditional puts.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use sha2::Sha256;
use tempfile::TempDir;

use super::component;
use super::http::{Answer, Request};
use super::port::on_free_port;
use super::process::{End, Process, StartError, bound};

/// The account that every Azurite has.
pub const ACCOUNT: &str = "devstoreaccount1";

/// The key of that account: the published one of all emulators, no secret.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The version of the REST API spoken here.
const API: &str = "2021-12-02";

/// A running Azurite (blobs only). Ends when dropped, its blobs with it.
#[derive(Debug)]
pub struct Azurite {
    // Dropped before its folder.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Azurite {
    /// Starts one without any container.
    ///
    /// # Panics
    /// When it is not installed or does not get ready.
    pub fn start() -> Azurite {
        let folder = tempfile::Builder::new().prefix("drctl-azurite-").tempdir();
        let folder = folder.expect("make a folder");
        let (port, process) = on_free_port(|port| run(&folder, port));
        Azurite { process, _folder: folder, port }
    }

    /// Where its one account's blobs are, as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// The name of its account.
    pub fn account(&self) -> &str {
        ACCOUNT
    }

    /// The key of its account.
    pub fn key(&self) -> &str {
        KEY
    }

    /// Makes a container; its name has at least 3 characters.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_container(&self, name: &str) {
        self.ask("PUT", name, Some("container"), &[], b"").expect("make a container");
    }

    /// Puts a blob; `name` must need no encoding in a URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn put(&self, container: &str, name: &str, bytes: &[u8]) {
        let kind = [("x-ms-blob-type", "BlockBlob")];
        let path = format!("{container}/{name}");
        self.ask("PUT", &path, None, &kind, bytes).expect("put a blob");
    }

    /// Gets a blob: 404 if there is none.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn get(&self, container: &str, name: &str) -> Answer {
        self.ask("GET", &format!("{container}/{name}"), None, &[], b"")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A signed request. `headers` are of Azure's own kind (`x-ms-…`), sorted, and come before
    /// `x-ms-date`.
    fn ask(
        &self,
        method: &str,
        path: &str,
        restype: Option<&str>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let path = format!("/{ACCOUNT}/{path}");
        let date = DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&Timestamp::now())
            .expect("this century");
        let mut headers = headers.to_vec();
        headers.extend([("x-ms-date", date.as_str()), ("x-ms-version", API)]);
        let signature = sign(&string_to_sign(method, &path, restype, &headers, body.len()));
        let authorization = format!("SharedKey {ACCOUNT}:{signature}");
        headers.push(("Authorization", &authorization));
        let target = match restype {
            Some(restype) => format!("{path}?restype={restype}"),
            None => path,
        };
        Request { port: self.port, method, target: &target, headers: &headers, body }
            .send()
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }
}

/// What Azure's "Shared Key" signs: the method, eleven standard headers (of which only the length
/// is sent here, and counts only when it is not 0), Azure's own headers, and the resource.
fn string_to_sign(
    method: &str,
    path: &str,
    restype: Option<&str>,
    headers: &[(&str, &str)],
    length: usize,
) -> String {
    let length = if length == 0 { String::new() } else { length.to_string() };
    let mut text = format!("{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n");
    for (name, value) in headers {
        writeln!(text, "{name}:{value}").expect("write to a string");
    }
    text += &format!("/{ACCOUNT}{path}");
    if let Some(restype) = restype {
        text += &format!("\nrestype:{restype}");
    }
    text
}

fn sign(text: &str) -> String {
    let key = STANDARD.decode(KEY).expect("the key is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn run(folder: &TempDir, port: u16) -> Result<Process, StartError> {
    let mut command = bound(component::built("azurite-blob"), End::Kill, None);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    command.args(["--skipApiVersionCheck", "--disableTelemetry", "--location"]).arg(folder.path());
    Process::start(command, End::Kill, "successfully listens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::port::hold_port;

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        let (_held, port) = hold_port();
        let folder = tempfile::tempdir().expect("make a folder");
        let error = run(&folder, port).unwrap_err();
        assert!(error.port_is_taken(), "{error}");
    }
}
