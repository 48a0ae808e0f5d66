//! Notifications: who is told when something is amiss, and how that reaches him.

mod alert_test;
mod amiss;
mod command;
mod email;
mod extent;
mod notice;
mod notification_log;
mod ntfy;
mod outbox;
mod pagerduty;
mod ping;
mod slack;
mod teams;

use std::time::Duration;

use drctl_policies::{Channel, SecretRef, Way};
use tokio::time::sleep;

pub(crate) use self::alert_test::{Unanswered, acknowledged, unanswered};
pub(crate) use self::amiss::{Amiss, Key, OF_JOBS, Seen, concerns};
pub(crate) use self::extent::Extent;
pub(crate) use self::notice::Notice;
pub(crate) use self::outbox::Outbox;
pub(crate) use self::ping::{Ping, Pings, new_run};
use crate::host::{Setup, read_optional, read_secret};
pub(crate) use crate::http::Undelivered;
use crate::http::{Client, Request, signed_json};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is tried.
const ATTEMPTS: u32 = 3;

/// How long it is waited before the second attempt; before the third four times as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Delivers a notice by a channel, in a few attempts. Secrets are read anew for each notice: one that was
/// exchanged is used from then on.
pub(crate) async fn deliver(
    setup: &Setup,
    (name, channel): (&str, &Channel),
    notice: &Notice,
) -> Result<(), Undelivered> {
    in_attempts(name, || once(setup, (name, channel), notice)).await
}

/// Does it once more, and once more, where it fails for the moment.
async fn in_attempts<Doing>(what: &str, once: impl Fn() -> Doing) -> Result<(), Undelivered>
where
    Doing: Future<Output = Result<(), Undelivered>>,
{
    let mut pause = PAUSE;
    let mut attempts = 1;
    loop {
        match once().await {
            Err(error) if error.again && attempts < ATTEMPTS => {
                tracing::debug!(what, "not delivered: {error}");
                sleep(pause).await;
                (pause, attempts) = (pause * 4, attempts + 1);
            }
            done => return done,
        }
    }
}

async fn once(
    setup: &Setup,
    (name, channel): (&str, &Channel),
    notice: &Notice,
) -> Result<(), Undelivered> {
    let (title, body) =
        (notice.title(channel.title.as_deref()), notice.body(channel.body.as_deref()));
    let words = (title.as_str(), body.as_str());
    let json = || notice.json(channel.title.as_deref());
    let secret = |key: &str, reference: &SecretRef| {
        let read = read_secret(&format!("notify.{name}.{key}"), reference);
        read.map_err(|error| Undelivered::at_all(format!("{error:#}")))
    };
    let optional = |key: &str, reference: &Option<SecretRef>| {
        let read = read_optional(&format!("notify.{name}.{key}"), reference.as_ref());
        read.map_err(|error| Undelivered::at_all(format!("{error:#}")))
    };
    let requests: Vec<Request> = match &channel.way {
        Way::Webhook { url, hmac_key } => {
            let (url, key) = (secret("url", url)?, optional("hmac_key", hmac_key)?);
            let second = setup.clock.now().as_second();
            vec![signed_json(&url, key.as_deref(), &json(), second)]
        }
        Way::Slack { url } => vec![slack::request(&secret("url", url)?, &title, &body)],
        Way::Teams { url } => vec![teams::request(&secret("url", url)?, &title, &body)],
        Way::Ntfy { url, token } => {
            let (url, token) = (secret("url", url)?, optional("token", token)?);
            vec![ntfy::request(&url, token.as_deref(), notice, words)]
        }
        Way::Pagerduty { url, routing_key } => {
            let (url, key) = (optional("url", url)?, secret("routing_key", routing_key)?);
            pagerduty::requests(url.as_deref(), &key, notice, words)
        }
        Way::Email(email) => {
            let password = optional("password", &email.password)?;
            return email::send((channel, email), password, notice, words).await;
        }
        Way::Command { command } => return command::run(command, &json()).await,
    };
    let client = Client::new(channel.ca_file.as_deref(), channel.allow_plain, PATIENCE)?;
    for request in &requests {
        client.send(request).await?;
    }
    Ok(())
}
