//! PagerDuty's events, version 2: what is amiss triggers an incident, its end resolves the same one.

use drctl_policies::Severity;
use serde_json::{Value, json};

use super::notice::{Event, Notice};
use crate::http::Request;

/// Where events go.
const EVENTS: &str = "https://events.pagerduty.com/v2/enqueue";

/// How long a summary may be there.
const SUMMARY: usize = 1000;

/// The events that a notice is: a test is an incident that is resolved at once. A report is not sent here
/// ([`takes_reports`](drctl_policies::Way::takes_reports)).
pub(super) fn requests(
    url: Option<&str>,
    key: &str,
    notice: &Notice,
    (title, body): (&str, &str),
) -> Vec<Request> {
    let actions: &[&str] = match notice.event {
        Event::Recovered => &["resolve"],
        Event::Test => &["trigger", "resolve"],
        _ => &["trigger"],
    };
    let event = |action: &&str| {
        let object = event(action, key, notice, (title, body));
        Request::json(url.unwrap_or(EVENTS), &object)
    };
    actions.iter().map(event).collect()
}

fn event(action: &str, key: &str, notice: &Notice, (title, body): (&str, &str)) -> Value {
    let severity = match (notice.event, notice.severity) {
        (Event::Test, _) => "info",
        (_, Severity::Breached) => "critical",
        (_, Severity::Attention) => "warning",
    };
    let summary: String = title.chars().take(SUMMARY).collect();
    json!({
        "routing_key": key, "event_action": action, "dedup_key": notice.key(), "client": "drctl",
        "payload": {
            "summary": summary, "source": notice.host, "severity": severity,
            "timestamp": notice.at, "component": notice.source, "class": notice.code,
            "custom_details": { "text": body },
        },
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn an_end_resolves_what_its_beginning_triggered() {
        let test = Notice::test("db1".to_owned(), Timestamp::UNIX_EPOCH, "");
        let of = |event: Event| {
            let notice = Notice { event, ..test.clone() };
            let sent = requests(None, "k", &notice, ("t", "b")).into_iter();
            let read = |request: Request| serde_json::from_slice::<Value>(&request.body).unwrap();
            sent.map(read).collect::<Vec<_>>()
        };
        let (begun, over) = (&of(Event::Begun)[0], &of(Event::Recovered)[0]);
        assert_eq!(
            (&begun["event_action"], &over["event_action"]),
            (&json!("trigger"), &json!("resolve"))
        );
        assert_eq!(begun["dedup_key"], over["dedup_key"]);
        assert_eq!(of(Event::Test).len(), 2, "no test stays open");
    }
}
