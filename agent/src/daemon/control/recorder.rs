//! Requests at the socket, put on record: those that are done, and those that are refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drctl_model::AuditOutcome;

use super::{Answer, Peer, Request};
use crate::audit::{Act, Log};

/// How many refused requests of others are put on record at once, and how soon one more is: nobody who may
/// ask nothing fills the disk.
const MOST: u32 = 20;
const ONE_MORE: Duration = Duration::from_secs(10);

/// Puts requests on record.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<State>>);

struct State {
    log: Log,
    room: Room,
}

/// Room for refused requests.
#[derive(Debug)]
struct Room {
    left: u32,
    since: Instant,
    /// Those that were not put on record since the last one that was.
    passed_over: u64,
}

impl Room {
    /// Takes a place, if there is one; how many were passed over before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let more = now.duration_since(self.since).as_secs() / ONE_MORE.as_secs();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(MOST);
            (self.left, self.since) = (self.left.saturating_add(more).min(MOST), now);
        }
        if self.left == 0 {
            self.passed_over += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.passed_over))
    }
}

impl Recorder {
    pub(super) fn new(log: Log) -> Self {
        let room = Room { left: MOST, since: Instant::now(), passed_over: 0 };
        Recorder(Arc::new(Mutex::new(State { log, room })))
    }

    /// From now on into this log.
    pub(super) fn logs_into(&self, log: Log) {
        self.state().log = log;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request on record that was answered. Who only asks how the jobs stand, and may, is not.
    pub(super) async fn record(&self, peer: &Peer, request: Option<&Request>, answer: &Answer) {
        if answer.is_ok() && request == Some(&Request::Jobs) {
            return;
        }
        let name = request.map_or("unknown", Request::name);
        let mut act = Act::by(&format!("request {name}"), peer.actor());
        if let Some(source) = request.and_then(Request::source) {
            act = act.of(source.as_str());
        }
        if let Some(kind) = request.and_then(Request::kind) {
            act.put("job", kind.as_str());
        }
        let outcome = match answer {
            Ok(_) => AuditOutcome::Succeeded,
            Err(refusal) => {
                act.put("code", &refusal.code);
                AuditOutcome::Refused
            }
        };
        let log = {
            let mut state = self.state();
            if outcome == AuditOutcome::Refused {
                match state.room.take(Instant::now()) {
                    None => return,
                    Some(0) => {}
                    Some(passed_over) => act.put("passed_over", &passed_over.to_string()),
                }
            }
            state.log.clone()
        };
        // A disk that is slow keeps no other request waiting.
        let _ = tokio::task::spawn_blocking(move || log.note(&act, outcome)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_all_the_time_does_not_fill_the_log_and_is_counted() {
        let begin = Instant::now();
        let mut room = Room { left: MOST, since: begin, passed_over: 0 };
        let taken = (0..1000).filter(|_| room.take(begin).is_some()).count();
        assert_eq!(taken, MOST as usize);
        assert_eq!(room.take(begin + ONE_MORE / 2), None);
        assert_eq!(room.take(begin + ONE_MORE), Some(1000 - u64::from(MOST) + 1));
        assert_eq!(room.take(begin + ONE_MORE), None);
        let later = begin + ONE_MORE * 1000;
        let taken = (0..1000).filter(|_| room.take(later).is_some()).count();
        assert_eq!(taken, MOST as usize);
    }
}
