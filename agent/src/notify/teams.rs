//! Microsoft Teams, by the webhook of a workflow: an adaptive card.

use serde_json::{Value, json};

use crate::http::Request;

/// A notice as a card. Rich text knows no Markdown: nothing that is told becomes a link.
pub(super) fn request(url: &str, title: &str, body: &str) -> Request {
    let line = |text: &str, bold: bool| {
        let weight = if bold { "Bolder" } else { "Default" };
        let run = json!({ "type": "TextRun", "text": text, "weight": weight });
        json!({ "type": "RichTextBlock", "inlines": [run] })
    };
    let lines: Vec<Value> =
        [line(title, true)].into_iter().chain(body.lines().map(|text| line(text, false))).collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "body": lines,
    });
    let attachment = json!({
        "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
    });
    Request::json(url, &json!({ "type": "message", "attachments": [attachment] }))
}
