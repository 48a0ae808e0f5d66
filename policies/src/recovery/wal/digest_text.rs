use std::fmt::Write as _;

use super::{RecoveryPlan, Target, Wal, Warning};
use crate::recovery::common::{self, Agreed};

impl RecoveryPlan {
    /// What the operator agrees to, as lines of text: a digest over them can be shown and asked
    /// back.
    ///
    /// Holds what decides the result, and the warnings. Leaves out what grows while the source is
    /// alive (how far the WAL reaches, what is lost behind the target), or no plan could ever be
    /// confirmed on a busy server. What ends the replay follows from that: the first commit behind
    /// the target, once there is one; the data are the same. And what is told of single pieces
    /// (where the WAL ends that is needed, and three warnings), for pieces are joined while a
    /// recovery runs.
    #[must_use]
    pub fn digest_text(&self) -> String {
        // To the end of the WAL what other timelines have is told anew with all of it.
        let of_others = |warning: &Warning| self.target == Target::Latest && warning.is_of_others();
        let told = |warning: &&Warning| !warning.is_of_pieces() && !of_others(warning);
        let warnings: Vec<String> =
            self.warnings.iter().filter(told).map(ToString::to_string).collect();
        let path: Vec<common::Leg<Wal>> = self.path.iter().map(common::Leg::from).collect();
        let agreed = Agreed::<Wal> {
            base: &self.base,
            consistent: self.consistent,
            lineage: self.timeline,
            target: &exact(&self.target),
            path: &path,
            warnings: &warnings,
        };
        agreed.text()
    }
}

impl RecoveryPlan {
    /// The same with what else an operator agrees to who has seen the plan: of a recovery to the
    /// end of the WAL how far that reaches, and all that is left out: how many bytes of WAL,
    /// commits up to when, and what other timelines have. The text without it binds a recovery that
    /// is begun, which goes on to wherever the WAL has come.
    #[must_use]
    pub fn agreed_text(&self) -> String {
        let mut text = self.digest_text();
        if self.target == Target::Latest {
            let _ = writeln!(text, "reach {}", self.reach);
            let _ = writeln!(text, "loses {:?}", self.loses);
            for warning in self.warnings.iter().filter(|warning| warning.is_of_others()) {
                let _ = writeln!(text, "warning {warning}");
            }
        }
        text
    }
}

/// A target on one line, and no two alike.
fn exact(target: &Target) -> String {
    match target {
        // Quoted and escaped: a name may hold a line end.
        Target::Name(name) => format!("name {name:?}"),
        other => other.to_string(),
    }
}
