//! The service manager's watchdog: a loop that turns feeds it, and one that stands still is started again.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use drctl_tests::agent::Agent;
use drctl_tests::site::until;

use crate::common::{NEVER, Shop};
use crate::metrics::{scrape, told_at};
use crate::standstill::Standstill;

/// Within how many microseconds the manager wants to hear of the agent, which speaks twice as often.
const WITHIN: &str = "200000";

/// How many seconds the loop stands still at the least: ten times as long.
const STANDSTILL: f64 = 2.0;

/// A service manager, which hears at once what it is told.
struct Manager {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
    hearing: Option<JoinHandle<()>>,
}

impl Manager {
    fn at(socket: PathBuf) -> Self {
        let ear = UnixDatagram::bind(&socket).expect("a socket");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let hearing = thread::spawn(move || {
            let mut text = [0; 4096];
            loop {
                let length = ear.recv(&mut text).expect("a word of the agent");
                if length == 0 {
                    return;
                }
                let word = String::from_utf8_lossy(&text[..length]).into_owned();
                kept.lock().expect("its words").push(word);
            }
        });
        Manager { socket, heard, hearing: Some(hearing) }
    }

    /// What it heard behind the last message that has this line; `None`: there was none.
    fn behind(&self, line: &str) -> Option<Vec<String>> {
        let heard = self.heard.lock().expect("its words");
        let at = heard.iter().rposition(|message| has(message, line))?;
        Some(heard[at + 1..].to_vec())
    }

    /// Waits until it has heard a few times behind such a message that the agent is alive.
    #[track_caller]
    fn is_fed(&self, line: &str) {
        let alive = |message: &&String| has(message, "WATCHDOG=1");
        until("the watchdog to be fed", || {
            let behind = self.behind(line).unwrap_or_default();
            behind.iter().filter(alive).count() >= 4
        });
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // An empty word, which no agent says, is the last one.
        let mouth = UnixDatagram::unbound().expect("a socket");
        mouth.send_to(&[], &self.socket).expect("the last word");
        let _ = self.hearing.take().map(JoinHandle::join);
    }
}

fn has(message: &str, line: &str) -> bool {
    message.lines().any(|one| one == line)
}

#[test]
fn the_watchdog_is_fed_while_the_loop_turns_and_never_while_it_stands_still() {
    let shop = Shop::open(NEVER);
    let port = told_at(&shop.site);
    let _ = shop.site.backup();
    let manager = Manager::at(shop.site.path("notify"));
    let mut command = shop.site.command(&["agent"]);
    command.env("NOTIFY_SOCKET", &manager.socket).env("WATCHDOG_USEC", WITHIN);
    let agent = Agent::start_as(&shop.site, command);
    manager.is_fed("READY=1");
    // An age that is counted whenever somebody asks: time goes by for the agent, all of it but its loop.
    let age = || scrape(port).get("drctl_rpo_seconds{source=\"shop\"}").copied();
    until("a look at the backup", || age().is_some());
    let standstill = Standstill::of(&shop.site, &agent);
    let before = age().expect("an age");
    until("time to go by", || age().expect("an age") > before + STANDSTILL);
    assert_eq!(manager.behind("RELOADING=1"), Some(vec![]), "of an agent that stands still");
    standstill.ends();
    manager.is_fed("RELOADING=1");
    let read_again = manager.behind("RELOADING=1").expect("what followed");
    assert!(has(&read_again[0], "READY=1"), "{read_again:?}");
    let _ = agent.stop().ended(0);
}
