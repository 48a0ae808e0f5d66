use std::fmt::Write as _;

use drctl_model::{SourceId, shown};
use serde_json::json;

use super::args::VerifyArgs;
use super::screen::{NAME_SHOWN, Screen, alarms_json, alarms_text, count, line, table};
use crate::engine::ArchiveVerdict;
use crate::health::{FoundOut, Row};
use crate::host::figures::bytes;
use crate::repository::verify::only_newer;

impl FoundOut {
    /// Answers with it.
    pub(super) fn print(&self, screen: Screen, args: &VerifyArgs) {
        let FoundOut { rows, logs, alarms, beside } = self;
        let listed = |problems: &[(String, String)]| -> Vec<serde_json::Value> {
            let entry =
                |(code, message): &(String, String)| json!({ "code": code, "message": message });
            problems.iter().map(entry).collect()
        };
        let log = |(source, found): &(SourceId, ArchiveVerdict)| {
            let ArchiveVerdict { closeness, log: verdict, .. } = found;
            json!({
                "source": source, "closeness": closeness, "good": verdict.problems.is_empty(), "pieces": verdict.pieces,
                "read_bytes": verdict.read_bytes, "opened": verdict.opened,
                "problems": listed(&verdict.problems), "covered_gaps": verdict.covered, "unproven": verdict.unproven,
                "signers": verdict.signers.iter().map(|(by, pieces)| json!({ "signed_by": by, "pieces": pieces }))
                    .collect::<Vec<_>>(),
            })
        };
        let entry = |Row { source, id, closeness, verdict, signer, expired, .. }: &Row| {
            let problems = listed(&verdict.problems);
            json!({
                "source": source, "backup": id, "good": verdict.problems.is_empty() && !expired,
                "expired": expired,
                "closeness": closeness, "signed_by": signer,
                "read_bytes": verdict.read_bytes, "opened": verdict.opened, "problems": problems,
            })
        };
        let mut object = json!({
            "data": args.data, "backups": rows.iter().map(entry).collect::<Vec<_>>(),
            "logs": logs.iter().map(log).collect::<Vec<_>>(), "alarms": alarms_json(alarms),
        });
        beside.tell(&mut object);
        screen.answer("drctl.verify/1", object, || {
            let head = ["BACKUP", "SOURCE", "SIGNED BY", "RESULT", "READ", "LOOKED AT"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            let mut details = String::new();
            for Row { source, id, verdict, words, signer, expired, .. } in rows {
                let result = match result(&verdict.problems) {
                    "good" if *expired => "expired",
                    result => result,
                };
                let read = bytes(verdict.read_bytes);
                lines.push(vec![
                    id.to_string(),
                    source.to_string(),
                    shown(signer.as_deref().unwrap_or("-"), NAME_SHOWN),
                    result.into(),
                    read,
                    (*words).to_owned(),
                ]);
                for (code, message) in &verdict.problems {
                    let _ = write!(details, "\n{id}: {} [{code}]", line(message));
                }
            }
            details.push_str(&of_logs(logs));
            details.push_str(&alarms_text(alarms));
            details.push_str(&beside.text());
            format!("{}{details}", table(&lines))
        });
    }
}

/// A look in a word.
fn result(problems: &[(String, String)]) -> &'static str {
    match problems.is_empty() {
        true => "good",
        false if only_newer(problems) => "newer",
        false => "BAD",
    }
}

/// What was found out about the log of sources.
fn of_logs(logs: &[(SourceId, ArchiveVerdict)]) -> String {
    let mut text = String::new();
    for (source, ArchiveVerdict { log: verdict, words, .. }) in logs {
        let result = result(&verdict.problems);
        let pieces = count(verdict.pieces, "piece");
        let _ = write!(text, "\nWAL of {source}: {result}, {pieces} ({words})");
        for (by, pieces) in &verdict.signers {
            let pieces = count(*pieces, "piece");
            let _ =
                write!(text, "\nWAL of {source}, signed by {}: {pieces}", shown(by, NAME_SHOWN));
        }
        for (code, message) in &verdict.problems {
            let _ = write!(text, "\n{source}: {} [{code}]", line(message));
        }
        for place in &verdict.unproven {
            let _ = write!(text, "\n{source}: NOT PROVEN: {place}");
        }
        for gap in &verdict.covered {
            let _ = write!(text, "\n{source}: {gap}; a later base backup makes up for it");
        }
    }
    text
}
