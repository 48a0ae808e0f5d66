//! What `tests/bench-agent` measures with: makes catalogs and buckets of any size with what drctl itself
//! writes them with, times the start of an agent, and plans removals.

mod made;
mod plan;
mod start;

use std::io;
use std::path::Path;
use std::time::Duration;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    match words.as_slice() {
        ["catalog", config, source, backups, pieces] => {
            made::catalog(Path::new(config), source, (number(backups), number(pieces)))
        }
        ["bucket", config, source, backups] => {
            made::bucket(Path::new(config), source, number(backups))
        }
        ["start", program, config, rounds] => {
            start::measure(Path::new(program), Path::new(config), number(rounds))
        }
        ["plan", backups, pieces] => plan::measure(number(backups), number(pieces)),
        _ => panic!("run tests/bench-agent"),
    }
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
