//! Dead-man's pings, as healthchecks.io takes them: begun, done, failed, with the run's identifier. Who
//! hears none for too long tells people, also where this host is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use drctl_model::{JobKind, SourceId};
use drctl_policies::{Config, SecretRef};
use futures_util::future::join_all;
use reqwest::Url;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::{Builder, Uuid};

use super::{PATIENCE, Undelivered, in_attempts};
use crate::host::{Setup, read_secret};
use crate::http::{Client, Request};

/// How long the last ones may take when the agent ends.
const LAST: Duration = Duration::from_secs(5);

/// How many may wait for one that hangs.
const MOST: usize = 16;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ping {
    /// A run began.
    Start,
    /// It came to its end.
    Success,
    /// It failed.
    Fail,
}

/// Whose pings: the agent's own, or those of a source's jobs of a kind.
pub(crate) type Whose = Option<(SourceId, JobKind)>;

/// A run, so that its beginning and its end are known as one.
#[must_use]
pub(crate) fn new_run() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

/// All pings of a configuration, a task for each address.
pub(crate) struct Pings {
    to: BTreeMap<Whose, Sender<(Ping, Option<Uuid>)>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Pings {
    pub(crate) fn open(setup: &Setup) -> Self {
        let (mut to, mut tasks) = (BTreeMap::new(), Vec::new());
        for (whose, what, url) in addresses(&setup.config) {
            let (sender, pings) = channel(MOST);
            tasks.push(tokio::spawn(serve(what, url.clone(), pings)));
            to.insert(whose, sender);
        }
        Pings { to, tasks }
    }

    /// Whether two configurations send pings to different places.
    pub(crate) fn differ(old: &Config, new: &Config) -> bool {
        addresses(old) != addresses(new)
    }

    /// Tells it to whoever waits for it; never waits itself.
    pub(crate) fn tell(&self, whose: &Whose, ping: Ping, run: Option<Uuid>) {
        if let Some(to) = self.to.get(whose)
            && to.try_send((ping, run)).is_err()
        {
            tracing::warn!("a ping is left out: too many wait for an address that does not answer");
        }
    }
}

impl Pings {
    /// Waits for those that are on their way, for a while: no more will come.
    pub(crate) async fn close(&mut self) {
        self.to.clear();
        let _ = timeout(LAST, join_all(self.tasks.iter_mut())).await;
        self.tasks.iter().for_each(JoinHandle::abort);
        self.tasks.clear();
    }
}

/// Whose pings go where, and what the configuration calls that.
fn addresses(config: &Config) -> Vec<(Whose, String, &SecretRef)> {
    let agent = config.agent.ping_url.iter().map(|url| (None, "agent.ping_url".to_owned(), url));
    let sources = config.sources.iter().flat_map(|(id, source)| {
        let urls = source.ping_urls().into_iter();
        urls.map(move |(kind, key, url)| {
            (Some((id.clone(), kind)), format!("sources.{id}.{key}"), url)
        })
    });
    agent.chain(sources).collect()
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One address: in order, each in a few attempts.
async fn serve(what: String, url: SecretRef, mut pings: Receiver<(Ping, Option<Uuid>)>) {
    while let Some((ping, run)) = pings.recv().await {
        let done = in_attempts(&what, || once(&what, &url, ping, run)).await;
        if let Err(error) = done {
            tracing::error!(ping = what, "not delivered: {error}");
        }
    }
}

async fn once(
    what: &str,
    url: &SecretRef,
    ping: Ping,
    run: Option<Uuid>,
) -> Result<(), Undelivered> {
    let read = read_secret(what, url);
    let url = read.map_err(|error| Undelivered::at_all(format!("{error:#}")))?;
    let (url, local) = address(&url, ping, run)?;
    let request = Request { url, headers: Vec::new(), body: Vec::new() };
    Client::new(None, local, PATIENCE)?.send(&request).await
}

/// Where a ping goes, and whether that is this host, which needs no encryption.
fn address(base: &str, ping: Ping, run: Option<Uuid>) -> Result<(String, bool), Undelivered> {
    let no_address = || Undelivered::at_all("the secret holds no address");
    let mut url = Url::parse(base.trim()).map_err(|_| no_address())?;
    let more = match ping {
        Ping::Start => Some("start"),
        Ping::Success => None,
        Ping::Fail => Some("fail"),
    };
    if let Some(more) = more {
        let mut path = url.path_segments_mut().map_err(|()| no_address())?;
        path.pop_if_empty().push(more);
    }
    if let Some(run) = run {
        url.query_pairs_mut().append_pair("rid", &run.to_string());
    }
    let local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    Ok((url.into(), local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_goes_where_healthchecks_takes_it() {
        let run = Builder::from_random_bytes([7; 16]).into_uuid();
        let of = |base: &str, ping| address(base, ping, Some(run)).unwrap().0;
        let id = run.to_string();
        assert_eq!(
            of("https://hc-ping.com/x\n", Ping::Start),
            format!("https://hc-ping.com/x/start?rid={id}")
        );
        assert_eq!(
            of("https://hc-ping.com/x/", Ping::Fail),
            format!("https://hc-ping.com/x/fail?rid={id}")
        );
        assert_eq!(
            of("https://hc-ping.com/x", Ping::Success),
            format!("https://hc-ping.com/x?rid={id}")
        );
        assert!(address("no address", Ping::Start, None).is_err());
        let local = |base: &str| address(base, Ping::Start, None).unwrap().1;
        assert!(local("http://127.0.0.1:8000/x") && !local("http://127.0.0.1.example.org/x"));
        assert_ne!(new_run(), new_run());
    }
}
