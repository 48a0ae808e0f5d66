use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use drctl_model::FindingCode;
use serde_json::json;

use super::screen::{Screen, line, words};
use crate::health::doctor as examine;
use crate::host::{Check, Exit, Level, Setup};

/// `drctl doctor`.
pub(super) async fn doctor(
    screen: Screen,
    setup: &Setup,
    source: Option<&str>,
    identity: Option<&Path>,
) -> Result<Exit> {
    let only = source.map(|name| setup.source(name).map(|(id, _)| id)).transpose()?;
    let found = examine(setup, only, identity).await;
    let entry = |finding: &Check| {
        json!({
            "level": finding.level.as_str(), "check": finding.check,
            "code": finding.code.map(FindingCode::as_str),
            "text": finding.text, "hint": finding.hint,
        })
    };
    let object = json!({ "findings": found.iter().map(entry).collect::<Vec<_>>() });
    screen.answer("drctl.doctor/1", object, || {
        let mut text = String::new();
        for finding in &found {
            let level = match finding.level {
                Level::Good => "ok  ",
                Level::Warning => "WARN",
                Level::Bad => "BAD ",
            };
            let code = finding.code.map_or(String::new(), |code| format!(" [{}]", code.as_str()));
            let told = format!("{level}  {:<24} {}{code}", finding.check, line(&finding.text));
            let _ = writeln!(text, "{}", words(&told, 31));
            if let Some(hint) = &finding.hint {
                let told = format!("      {:<24} -> {}", "", line(hint));
                let _ = writeln!(text, "{}", words(&told, 34));
            }
        }
        text
    });
    Ok(match found.iter().map(|finding| finding.level).max() {
        Some(Level::Bad) => Exit::Failure,
        Some(Level::Warning) => Exit::Degraded,
        _ => Exit::Success,
    })
}
