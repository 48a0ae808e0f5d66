//! `drctl notify`.

use anyhow::Result;
use drctl_policies::{Channel, Way};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::args::NotifyVerb;
use super::screen::{Screen, line};
use crate::host::{AgentError, Exit, Setup};
use crate::notify::{Notice, deliver};

/// `drctl notify`.
pub(super) async fn notify(screen: Screen, setup: &Setup, verb: &NotifyVerb) -> Result<Exit> {
    match verb {
        NotifyVerb::Test { channel } => test(screen, setup, channel.as_deref()).await,
        NotifyVerb::Ack { code } => ack(screen, setup, code).await,
    }
}

/// Tries all channels at once: one that hangs keeps no other waiting.
async fn test(screen: Screen, setup: &Setup, only: Option<&str>) -> Result<Exit> {
    let all = &setup.config.notify;
    if all.is_empty() {
        let text = "the configuration has no channel: write one as [notify.NAME], see docs/notifications.md";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    if let Some(name) = only.filter(|name| !all.contains_key(*name)) {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        let text =
            format!("there is no channel `{name}` in [notify]; there are: {}", known.join(", "));
        return Err(AgentError::Usage(text).into());
    }
    let notice = Notice::test(setup.host(), setup.clock.now(), "");
    let meant = all.iter().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
    let sending = meant.map(async |(name, channel)| {
        let done = deliver(setup, (name, channel), &notice).await;
        (name, channel, done.err().map(|error| error.to_string()))
    });
    let done = join_all(sending).await;
    let channels: Vec<Value> = done
        .iter()
        .map(|(name, channel, why)| {
            json!({ "channel": name, "kind": kind(channel), "sent": why.is_none(), "why": why })
        })
        .collect();
    let failed = done.iter().any(|(_, _, why)| why.is_some());
    screen.answer("drctl.notify-test/1", json!({ "channels": channels }), || {
        let told = done.iter().map(|(name, channel, why)| {
            let kind = kind(channel);
            match why {
                None => format!("{name} ({kind}): the test message was taken"),
                Some(why) => format!("{name} ({kind}): NOT SENT: {}", line(why)),
            }
        });
        told.collect::<Vec<_>>().join("\n")
    });
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// Notes that somebody got a test message.
async fn ack(screen: Screen, setup: &Setup, code: &str) -> Result<Exit> {
    let code = code.trim().to_ascii_uppercase();
    let catalog = setup.writable_catalog().await.ok_or_else(|| {
        let text = "the catalog of this host cannot be written, so that nothing is noted: run this on \
                    the host that the message names, as drctl's account";
        AgentError::Usage(text.to_owned())
    })?;
    let Some(channel) = catalog.acknowledge(&code, setup.clock.now()).await? else {
        let text = format!("this host sent no test message with the code `{}`", line(&code));
        return Err(AgentError::Usage(text).into());
    };
    let object = json!({ "channel": channel, "code": code });
    screen.answer("drctl.notify-ack/1", object, || {
        format!("noted: the test message by the channel {channel} has arrived")
    });
    Ok(Exit::Success)
}

/// The word of the configuration.
fn kind(channel: &Channel) -> &'static str {
    match channel.way {
        Way::Webhook { .. } => "webhook",
        Way::Slack { .. } => "slack",
        Way::Teams { .. } => "teams",
        Way::Email(_) => "email",
        Way::Pagerduty { .. } => "pagerduty",
        Way::Ntfy { .. } => "ntfy",
        Way::Command { .. } => "command",
    }
}
