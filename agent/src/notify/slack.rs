//! Slack, and what takes its incoming webhooks.

use serde_json::json;

use super::request::Request;

/// A notice as a message.
pub(super) fn request(url: &str, title: &str, body: &str) -> Request {
    let text = format!("*{}*\n{}", plain(title), plain(body));
    Request::json(url, &json!({ "text": text, "unfurl_links": false, "unfurl_media": false }))
}

/// Text in which nothing is a mention or a link: names of a bucket may be anything.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_mentioned_by_what_is_told() {
        let request = request("https://example.org", "a", "b <!channel> <http://evil|x> & c");
        let object: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let text = "*a*\nb &lt;!channel&gt; &lt;http://evil|x&gt; &amp; c";
        assert_eq!(object["text"], text);
    }
}
