use std::fmt::Write as _;

use drctl_catalog::Subject;
use drctl_model::{SourceId, shown};
use serde_json::json;

use super::args::VerifyArgs;
use super::screen::{NAME_SHOWN, Screen, alarms_json, alarms_text, count, line, table};
use crate::engine::ArchiveVerdict;
use crate::health::{FoundOut, Row, standing_words};
use crate::host::figures::bytes;
use crate::repository::verify::only_newer;

impl FoundOut {
    /// Answers with it.
    pub(super) fn print(&self, screen: Screen, args: &VerifyArgs) {
        let FoundOut { rows, logs, alarms, beside, .. } = self;
        let listed = |problems: &[(String, String)]| -> Vec<serde_json::Value> {
            let entry =
                |(code, message): &(String, String)| json!({ "code": code, "message": message });
            problems.iter().map(entry).collect()
        };
        let bad = |source: &SourceId, subject: &Subject| -> Vec<String> {
            let found = self.standing(source, subject).map(|found| &found.problems);
            found.into_iter().flatten().map(|fault| fault.message.clone()).collect()
        };
        let log = |(source, found): &(SourceId, ArchiveVerdict)| {
            let ArchiveVerdict { closeness, log: verdict, subject, .. } = found;
            let bad = bad(source, subject);
            json!({
                "source": source, "closeness": closeness, "pieces": verdict.pieces, "bad": bad,
                "good": verdict.problems.is_empty() && bad.is_empty(), "read_bytes": verdict.read_bytes, "opened": verdict.opened,
                "problems": listed(&verdict.problems), "covered_gaps": verdict.covered, "unproven": verdict.unproven,
                "signers": verdict.signers.iter().map(|(by, pieces)| json!({ "signed_by": by, "pieces": pieces }))
                    .collect::<Vec<_>>(),
            })
        };
        let entry = |Row { source, id, closeness, verdict, signer, expired, .. }: &Row| {
            let bad = bad(source, &Subject::Backup(id.clone()));
            json!({
                "source": source, "backup": id, "expired": expired,
                "good": verdict.problems.is_empty() && bad.is_empty() && !expired, "bad": bad,
                "closeness": closeness, "signed_by": signer,
                "read_bytes": verdict.read_bytes, "opened": verdict.opened, "problems": listed(&verdict.problems),
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
                let standing = self.standing(source, &Subject::Backup(id.clone()));
                let result = match result(&verdict.problems) {
                    "good" if standing.is_some() => "BAD",
                    "good" if *expired => "expired",
                    "BAD" if beside.distrusts(source, id) => "NOT TRUSTED",
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
                if let Some(found) = standing {
                    let _ = write!(details, "\n{id}: {}", line(&standing_words(found, words)));
                }
            }
            details.push_str(&self.of_logs());
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

impl FoundOut {
    /// What was found out about the log of sources.
    fn of_logs(&self) -> String {
        let mut text = String::new();
        for (source, ArchiveVerdict { log: verdict, words, subject, .. }) in &self.logs {
            let standing = self.standing(source, subject);
            let result = match standing {
                Some(_) => "BAD",
                None => result(&verdict.problems),
            };
            let pieces = count(verdict.pieces, "piece");
            let _ = write!(text, "\nWAL of {source}: {result}, {pieces} ({words})");
            for (by, pieces) in &verdict.signers {
                let pieces = count(*pieces, "piece");
                let _ = write!(
                    text,
                    "\nWAL of {source}, signed by {}: {pieces}",
                    shown(by, NAME_SHOWN)
                );
            }
            for (code, message) in &verdict.problems {
                let _ = write!(text, "\n{source}: {} [{code}]", line(message));
            }
            if let Some(found) = standing {
                let _ = write!(text, "\n{source}: {}", line(&standing_words(found, words)));
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
}
