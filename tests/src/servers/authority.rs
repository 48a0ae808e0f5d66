//! A certificate authority of our own, by openssl: for servers that speak TLS alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// An authority, and one certificate by it for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// When openssl is not installed.
    pub fn new() -> Authority {
        let folder = tempfile::Builder::new().prefix("drctl-authority-").tempdir();
        let folder = folder.expect("make a folder");
        let at = folder.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(
            at,
            &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=drctl-tests"),
        );
        fs::write(at.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("write");
        let authority = Authority { folder };
        authority.sign("public.crt", "private.key");
        authority
    }

    fn sign(&self, certificate: &str, private: &str) {
        let at = self.folder.path();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(at, &format!("req {key} -keyout {private} -out request -subj /CN=localhost"));
        let signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        openssl(at, &format!("x509 -req -in request -out {certificate} {signed}"));
    }

    /// Its own certificate, for those who shall trust it.
    pub fn certificate(&self) -> String {
        self.read("ca.crt")
    }

    /// The server's certificate and its key.
    pub fn server(&self) -> (String, String) {
        (self.read("public.crt"), self.read("private.key"))
    }

    /// A certificate for the same names with another key.
    pub fn another(&self) -> (String, String) {
        self.sign("another.crt", "another.key");
        (self.read("another.crt"), self.read("another.key"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("read what openssl wrote")
    }
}

fn openssl(at: &Path, line: &str) {
    let mut command = Command::new("openssl");
    command.args(line.split(' ')).current_dir(at).stdin(Stdio::null());
    let output = command.output().expect("start openssl");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
