//! ntfy: a message to a topic.

use drctl_policies::Severity;

use super::notice::{Event, Notice};
use crate::http::Request;

/// A notice for a topic.
pub(super) fn request(
    url: &str,
    token: Option<&str>,
    notice: &Notice,
    (title, body): (&str, &str),
) -> Request {
    let (priority, tag) = match (notice.event, notice.severity) {
        (Event::Recovered, _) => ("3", "white_check_mark"),
        (Event::Test, _) => ("2", "test_tube"),
        (Event::Report, _) => ("3", "memo"),
        (_, Severity::Breached) => ("5", "rotating_light"),
        (_, Severity::Attention) => ("4", "warning"),
    };
    // A header has ASCII alone.
    let ascii = |c: char| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' };
    let mut headers = vec![
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Title", title.chars().map(ascii).collect()),
        ("Priority", priority.to_owned()),
        ("Tags", tag.to_owned()),
    ];
    headers.extend(token.map(|token| ("Authorization", format!("Bearer {token}"))));
    Request { url: url.to_owned(), headers, body: body.as_bytes().to_vec() }
}
