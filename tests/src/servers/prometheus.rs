//! Prometheus: it reads metrics, and judges them by rules.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::component;
use super::http::Request;
use super::port::on_free_port;
use super::process::{End, Process, StartError, bound};

/// A running Prometheus. Ends when dropped; what it read stays in its folder.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    process: Process,
}

impl Prometheus {
    /// Starts one with a configuration, which lies in a new folder, as what it reads does.
    ///
    /// # Panics
    /// When it is not installed, refuses its configuration or does not get ready.
    pub fn start(folder: &Path, configuration: &str) -> Prometheus {
        fs::create_dir(folder).expect("make a folder");
        fs::write(folder.join("prometheus.yml"), configuration).expect("write a configuration");
        let (port, process) = on_free_port(|port| run(folder, port));
        Prometheus { port, process }
    }

    /// What its API tells at a path below `/api/v1/`, which must need no encoding in a URL.
    ///
    /// # Panics
    /// When it does not answer, or refuses to.
    pub fn tells(&self, path: &str) -> Value {
        let target = format!("/api/v1/{path}");
        let request =
            Request { port: self.port, method: "GET", target: &target, headers: &[], body: b"" };
        let body = request.send().expect("ask Prometheus").expect(&target);
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn run(folder: &Path, port: u16) -> Result<Process, StartError> {
    let end = End::Kill;
    let mut command = bound(component::built("prometheus"), end, None);
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Process::start(command, end, "Server is ready to receive web requests")
}
