//! MinIO: the S3 server to test against.
//!
//! It enforces what drctl leans on: create-only puts, checksums, versions, object lock.

use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::thread;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use rustix::process::Signal;
use tempfile::TempDir;

use super::authority::Authority;
use super::component;
use super::port::{on_free_port, on_same_port};
use super::process::{End, Process, StartError, bound};

/// The region that every bucket is in.
pub const REGION: &str = "us-east-1";

/// How long a clean stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running MinIO on one folder. Ends when dropped, its objects with it.
#[derive(Debug)]
pub struct Minio {
    // Dropped before its folder.
    process: Option<Process>,
    place: Place,
    port: u16,
}

/// All of a MinIO but its port: what is needed to start it again.
#[derive(Debug)]
struct Place {
    folder: TempDir,
    access_key: String,
    secret_key: String,
}

impl Minio {
    /// Starts one without any bucket, under random keys.
    ///
    /// # Panics
    /// When it is not installed or does not get ready.
    pub fn start() -> Minio {
        Minio::start_in(Place::new())
    }

    /// The same, over TLS alone, with the certificate of an authority, and with these buckets:
    /// [`client`](Self::client) does not trust it. Known as `localhost`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_tls(authority: &Authority, buckets: &[&str]) -> Minio {
        let place = Place::new();
        let (certificate, key) = authority.server();
        for (name, text) in [("public.crt", certificate), ("private.key", key)] {
            fs::write(place.folder.path().join("certs").join(name), text).expect("write a file");
        }
        for bucket in buckets {
            fs::create_dir(place.folder.path().join("data").join(bucket)).expect("make a bucket");
        }
        Minio::start_in(place)
    }

    fn start_in(place: Place) -> Minio {
        let (port, process) = on_free_port(|port| place.run(port));
        Minio { process: Some(process), place, port }
    }

    /// Where it listens, as a URL. Buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The access key id of its root account.
    pub fn access_key(&self) -> &str {
        &self.place.access_key
    }

    /// The secret access key of its root account.
    pub fn secret_key(&self) -> &str {
        &self.place.secret_key
    }

    /// An S3 client for it, with the root account.
    pub fn client(&self) -> Client {
        let credentials =
            Credentials::new(self.access_key(), self.secret_key(), None, None, "drctl-tests");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(REGION))
            .endpoint_url(self.endpoint())
            .credentials_provider(credentials)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Client::from_conf(config)
    }

    /// Makes a bucket; its name has at least 3 characters.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_bucket(&self, name: &str) {
        let request = self.client().create_bucket().bucket(name);
        expect("make a bucket", request.send());
    }

    /// Makes a bucket with object lock, and so with versions. No retention is set by default.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_bucket_with_lock(&self, name: &str) {
        let request =
            self.client().create_bucket().bucket(name).object_lock_enabled_for_bucket(true);
        expect("make a bucket with object lock", request.send());
    }

    /// Keeps versions in a bucket from now on.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn set_versioning(&self, name: &str) {
        let enabled =
            VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let client = self.client();
        let request = client.put_bucket_versioning().bucket(name).versioning_configuration(enabled);
        expect("keep versions in a bucket", request.send());
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// What it said since it was started last; nothing while it is stopped.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Stops it cleanly; its objects stay.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it, in the middle of whatever it does; its objects stay.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Starts it again, on its port and data and with its keys.
    ///
    /// # Panics
    /// When it runs, or does not get ready.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(on_same_port(|| self.place.run(self.port)));
    }

    /// Gives its root account another secret key, as somebody does who has lost the old one: requests
    /// with that one are denied from now on.
    ///
    /// # Panics
    /// When it does not get ready again.
    pub fn change_secret_key(&mut self) {
        self.stop();
        self.place.secret_key = random_word();
        self.start_again();
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.end(signal, STOP_PATIENCE);
        }
    }
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("drctl-minio-").tempdir();
        let folder = folder.expect("make a folder");
        for name in ["data", "certs"] {
            fs::create_dir(folder.path().join(name)).expect("make a folder");
        }
        Place { folder, access_key: random_word(), secret_key: random_word() }
    }

    fn run(&self, port: u16) -> Result<Process, StartError> {
        let mut command = bound(component::built("minio"), End::Kill, None);
        command.env("MINIO_ROOT_USER", &self.access_key);
        command.env("MINIO_ROOT_PASSWORD", &self.secret_key);
        // It calls nobody and has no console.
        command.env("MINIO_UPDATE", "off").env("MINIO_CALLHOME_ENABLE", "off");
        command.env("MINIO_BROWSER", "off").env("HOME", self.folder.path());
        command.arg("server").arg("--address").arg(format!("127.0.0.1:{port}"));
        command.arg("--certs-dir").arg(self.folder.path().join("certs"));
        command.arg(self.folder.path().join("data"));
        Process::start(command, End::Kill, "API: http")
    }
}

/// Waits for a request that must succeed.
///
/// On a thread of its own, because a test's thread may already be one of a runtime, and there no
/// other may be entered.
fn expect<T: Send, E: Debug>(what: &str, request: impl Future<Output = Result<T, E>> + Send) -> T {
    let wait = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .expect("make a runtime")
            .block_on(request)
            .unwrap_or_else(|error| panic!("{what}: {error:?}"))
    };
    thread::scope(|scope| scope.spawn(wait).join().unwrap_or_else(|_| panic!("{what} failed")))
}

/// 16 hexadecimal digits, different each time. Not for secrets outside of tests.
fn random_word() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::port::hold_port;

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        let (_held, port) = hold_port();
        let mut minio = Minio::start();
        minio.stop();
        let error = minio.place.run(port).unwrap_err();
        assert!(error.port_is_taken(), "{error}");
    }
}
