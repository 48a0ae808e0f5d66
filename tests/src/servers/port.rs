//! Free ports, and starts that survive losing one to somebody else.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process::StartError;

/// Ports are taken from below the range the system gives to outgoing connections (from 32768 on
/// Linux), so that no client of another test holds one by chance.
const FIRST_PORT: u32 = 15_000;
const PORTS: u32 = 17_000;

/// How many other ports a start tries when the one it got was taken in between.
const ATTEMPTS: u32 = 10;

/// How long a restart waits for its own port.
const SAME_PORT_PATIENCE: Duration = Duration::from_secs(10);

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 that nobody listens on now; never the same one soon again in this process.
///
/// Another process may take it before it is used: the servers here then start on another one.
///
/// # Panics
/// When every port is taken.
pub fn free_port() -> u16 {
    let spread = std::process::id().wrapping_mul(7_919);
    for _ in 0..PORTS {
        let turn = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + spread.wrapping_add(turn) % PORTS;
        let port = u16::try_from(port).expect("the range ends below 65536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 is free");
}

/// Starts something on a free port, on another one when that is taken meanwhile.
pub(super) fn on_free_port<T>(mut start: impl FnMut(u16) -> Result<T, StartError>) -> (u16, T) {
    for _ in 1..ATTEMPTS {
        let port = free_port();
        match start(port) {
            Ok(started) => return (port, started),
            Err(error) if error.port_is_taken() => {}
            Err(error) => panic!("{error}"),
        }
    }
    let port = free_port();
    (port, start(port).unwrap_or_else(|error| panic!("{error}")))
}

/// Starts something again on the port it had.
pub(super) fn on_same_port<T>(mut start: impl FnMut() -> Result<T, StartError>) -> T {
    let deadline = Instant::now() + SAME_PORT_PATIENCE;
    loop {
        match start() {
            Ok(started) => return started,
            Err(error) if error.port_is_taken() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A port that somebody listens on, as long as the listener lives.
#[cfg(test)]
pub(super) fn hold_port() -> (TcpListener, u16) {
    let held = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = held.local_addr().expect("an address").port();
    (held, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_is_tried_when_one_is_taken() {
        let mut tried = Vec::new();
        let (port, ()) = on_free_port(|port| {
            tried.push(port);
            if tried.len() < 3 { Err(StartError::port_taken()) } else { Ok(()) }
        });
        assert_eq!(tried.len(), 3);
        assert_eq!(tried[2], port);
        assert!(tried[0] != tried[1] && tried[1] != tried[2]);
    }
}
