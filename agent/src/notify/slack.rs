//! Slack, and what takes its incoming webhooks.

use serde_json::json;

use crate::http::Request;

/// A notice as a message.
pub(super) fn request(url: &str, title: &str, body: &str) -> Request {
    let text = format!("*{}*\n{}", plain(title), plain(body));
    Request::json(url, &json!({ "text": text, "unfurl_links": false, "unfurl_media": false }))
}

/// Text in which nothing is a mention, a link or a format, for Slack and for Mattermost: names of a bucket
/// or a database may be anything. A space of no width breaks what must stay readable.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '`' => plain.push('\''),
            '*' => plain.push('\u{2217}'),
            '~' => plain.push('\u{223c}'),
            '@' | ']' => plain.extend([c, '\u{200b}']),
            _ => plain.push(c),
        }
    }
    plain.replace("://", ":\u{200b}//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_mentioned_by_what_is_told() {
        let request = request("https://example.org", "a", "b <!channel> <http://evil|x> & c");
        let object: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let text = "*a*\nb &lt;!channel&gt; &lt;http://evil|x&gt; &amp; c";
        assert_eq!(object["text"], text.replace("://", ":\u{200b}//"));
    }

    #[test]
    fn nothing_that_is_told_is_a_format() {
        let told = plain("@here @all [x](https://evil) *b* ~c~ `d`");
        for broken in ["@here", "@all", "](", "://", "*", "~", "`"] {
            assert!(!told.contains(broken), "{broken}: {told}");
        }
    }
}
