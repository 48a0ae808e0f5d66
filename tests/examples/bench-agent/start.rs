//! How long an agent takes to be ready.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::median;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts an agent so often, and prints how long it took until it said that it is ready, with the processor
/// time of all its threads and the most memory that it had until then.
pub(crate) fn measure(program: &Path, config: &Path, rounds: u64) -> io::Result<()> {
    let place = tempfile::tempdir()?;
    let address = place.path().join("notify");
    let manager = UnixDatagram::bind(&address)?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let (mut wall, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut agent = Command::new(program);
        agent.arg("--config").arg(config).arg("agent").env("NOTIFY_SOCKET", &address);
        let began = Instant::now();
        let mut agent = agent.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut said = [0; 4096];
        loop {
            let length = manager.recv(&mut said)?;
            if said[..length].starts_with(b"READY=1") {
                break;
            }
        }
        wall.push(began.elapsed());
        cpu.push(used(agent.id())?);
        memory.push(peak(agent.id())?);
        agent.kill()?;
        let _ = agent.wait()?;
        // What it had said meanwhile.
        manager.set_nonblocking(true)?;
        while manager.recv(&mut said).is_ok() {}
        manager.set_nonblocking(false)?;
    }
    let slowest = wall.iter().max().map_or(0.0, |most| most.as_secs_f64() * 1000.0);
    let (wall, cpu, memory) = (median(wall), median(cpu), memory.into_iter().max().unwrap_or(0));
    let memory = memory / 1024;
    writeln!(io::stdout(), "{wall:.0} {slowest:.0} {cpu:.0} {memory}")
}

/// Processor time of all threads, to the nanosecond.
fn used(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let first = told.split_whitespace().next();
        nanoseconds += first.and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The most memory that it had, in KiB.
fn peak(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or_default())
}
