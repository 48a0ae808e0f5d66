//! MongoDB, as far as there is one: no registry has a `mongod`. SecantusDB speaks its protocol, with a
//! replica set of one member and an oplog, and runs here under the name `mongod`. It has no socket, none of
//! `mongod`'s own options, and no data of `mongod`'s format.

use tempfile::TempDir;

use super::component;
use super::port::on_free_port;
use super::process::{End, Process, bound};

/// A running stand-in for MongoDB. Ends when dropped, its data with it.
#[derive(Debug)]
pub struct MongoDb {
    // Dropped before its folder.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl MongoDb {
    /// Starts one without data.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start() -> MongoDb {
        let folder = tempfile::Builder::new().prefix("drctl-mongo-").tempdir().expect("a folder");
        let (port, process) = on_free_port(|port| {
            let program = component::unpacked("secantusdb").join("bin/mongod");
            let mut command = bound(program, End::Kill, None);
            // It looks for a file of options in its folder and in its home.
            command.current_dir(folder.path()).env("HOME", folder.path());
            command.args(["-u", "-m", "secantus", "--host", "127.0.0.1", "--cache-size", "64M"]);
            command.args(["--port", &port.to_string()]);
            command.arg("--storage-path").arg(folder.path().join("data"));
            Process::start(command, End::Kill, "secantus listening on")
        });
        MongoDb { process, _folder: folder, port }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
