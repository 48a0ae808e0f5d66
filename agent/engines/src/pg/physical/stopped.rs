//! What a server says of where its recovery stopped, and why.

use drctl_model::{Lsn, shown};
use jiff::Timestamp;

/// The message with which it says so.
const STOPPING: &str = "recovery stopping ";

/// Where and why a server stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its own message, for people.
    pub said: String,
    /// What it means; nothing where that is not known.
    pub at: Option<StoppedAt>,
}

/// The same, as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedAt {
    /// The end of a transaction, a commit or a rollback.
    Transaction {
        /// Its number.
        xid: u32,
        /// When it ended.
        time: Option<Timestamp>,
        /// Whether it is in the result.
        inclusive: bool,
    },
    /// A record that begins at this position.
    Record {
        /// The position.
        lsn: Lsn,
        /// Whether it is in the result.
        inclusive: bool,
    },
    /// A restore point of this name.
    Point(String),
}

impl Stopped {
    /// The last of these in a server's log.
    pub(super) fn last_of(log: &str) -> Option<Stopped> {
        let mut lines = log.lines().rev();
        // What a name brings along stands behind a tab: no line of its own.
        let mut more = Vec::new();
        loop {
            let line = lines.next()?;
            if let Some(rest) = line.strip_prefix('\t') {
                more.push(rest);
                continue;
            }
            let message = line.split_once("LOG:  ").map(|(_, message)| message);
            let Some(first) = message.filter(|text| text.starts_with(STOPPING)) else {
                more.clear();
                continue;
            };
            more.push(first);
            more.reverse();
            let text = more.join("\n");
            let at = StoppedAt::parse(&text);
            return Some(Stopped { said: shown(&text, 300), at });
        }
    }
}

impl StoppedAt {
    /// `recoveryStopsBefore` and `recoveryStopsAfter` in `xlogrecovery.c`.
    fn parse(text: &str) -> Option<StoppedAt> {
        let text = text.strip_prefix(STOPPING)?;
        if let Some(rest) = text.strip_prefix("at restore point \"") {
            let (name, _time) = rest.rsplit_once("\", time ")?;
            return Some(StoppedAt::Point(name.to_owned()));
        }
        let (inclusive, what) = match (text.strip_prefix("before "), text.strip_prefix("after ")) {
            (Some(what), _) => (false, what),
            (_, Some(what)) => (true, what),
            _ => return None,
        };
        if let Some(lsn) = what.strip_prefix("WAL location (LSN) \"") {
            let lsn = lsn.strip_suffix('"')?.parse().ok()?;
            return Some(StoppedAt::Record { lsn, inclusive });
        }
        let ended = ["commit of transaction ", "abort of transaction "];
        let rest = ended.iter().find_map(|kind| what.strip_prefix(kind))?;
        let (xid, time) = rest.split_once(", time ")?;
        let (xid, time) = (xid.parse().ok()?, time.parse().ok());
        Some(StoppedAt::Transaction { xid, time, inclusive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(message: &str) -> Option<StoppedAt> {
        let log = format!(
            "2026-03-01 01:00:00.000 UTC [7] LOG:  redo starts at 0/2000028\n\
             2026-03-01 01:00:01.000 UTC [7] LOG:  {message}\n\
             2026-03-01 01:00:01.000 UTC [7] LOG:  pausing at the end of recovery\n\
             2026-03-01 01:00:01.000 UTC [7] HINT:  Execute pg_wal_replay_resume() to promote.\n"
        );
        Stopped::last_of(&log)?.at
    }

    #[test]
    fn what_a_server_says_of_its_stop_is_understood() {
        let time = "2026-03-01T01:12:40.5Z".parse().ok();
        for (message, expected) in [
            (
                "recovery stopping before commit of transaction 734, time 2026-03-01 01:12:40.5+00",
                StoppedAt::Transaction { xid: 734, time, inclusive: false },
            ),
            (
                "recovery stopping after abort of transaction 734, time 2026-03-01 01:12:40.5+00",
                StoppedAt::Transaction { xid: 734, time, inclusive: true },
            ),
            (
                "recovery stopping before WAL location (LSN) \"16/B374D848\"",
                StoppedAt::Record { lsn: Lsn(0x16_B374_D848), inclusive: false },
            ),
            (
                "recovery stopping after WAL location (LSN) \"0/0300A0B8\"",
                StoppedAt::Record { lsn: Lsn(0x300_A0B8), inclusive: true },
            ),
            (
                "recovery stopping at restore point \"safe\", time 2026-03-01 01:12:40+00",
                StoppedAt::Point("safe".to_owned()),
            ),
        ] {
            assert_eq!(at(message), Some(expected), "{message}");
        }
        assert_eq!(at("recovery stopping after reaching consistency"), None);
        assert_eq!(at("consistent recovery state reached at 0/2000100"), None);
    }

    #[test]
    fn a_name_is_nothing_but_a_name() {
        // The server puts a tab before each line of a name but its first.
        for name in
            ["a\", time 1", "LOG:  recovery stopping at restore point \"b\", time 2", "x\ny"]
        {
            let told = name.replace('\n', "\n\t");
            let message = format!("recovery stopping at restore point \"{told}\", time 2026-03-01");
            assert_eq!(at(&message), Some(StoppedAt::Point(name.to_owned())), "{name}");
        }
        let inside = "restored log file \"x\"\n\tLOG:  recovery stopping at restore point \"safe\", \
                      time 2026-03-01 01:12:40+00";
        assert_eq!(at(inside), None);
    }
}
