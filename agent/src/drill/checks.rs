//! What an operator wants to know of what was restored; no IO.

use drctl_engines::pg::physical::Question;
use drctl_model::{CheckDone, DrillOutcome, shown};
use drctl_policies::DrillCheck;

use super::Came;

/// The questions that checks ask.
pub(super) fn questions(checks: &[DrillCheck]) -> Vec<Question> {
    let question = |check: &DrillCheck| Question {
        database: check.database.clone(),
        sql: check.sql.clone(),
        within: check.timeout,
    };
    checks.iter().map(question).collect()
}

/// What a drill comes to with the answers: one that is another one than was expected makes it fail, unless it has
/// failed anyway.
pub(super) fn judged(
    mut came: Came,
    checks: &[DrillCheck],
    answers: &[Result<Option<String>, String>],
) -> Came {
    let mut is_wrong = false;
    for (check, answer) in checks.iter().zip(answers) {
        let wrong = wrong(check, answer.as_ref());
        is_wrong |= wrong.is_some();
        came.checks.push(CheckDone { name: check.name.clone(), passed: wrong.is_none() });
        came.why.extend(wrong);
    }
    if came.outcome.is_proven() && is_wrong {
        came.outcome = DrillOutcome::Failed { error: "check".to_owned() };
    }
    came
}

/// What is wrong with an answer.
fn wrong(check: &DrillCheck, answer: Result<&Option<String>, &String>) -> Option<String> {
    let name = &check.name;
    match answer {
        Ok(Some(text)) if *text == check.expect => None,
        Ok(Some(text)) => {
            let (text, expect) = (shown(text, 100), shown(&check.expect, 100));
            Some(format!("check {name}: it is `{text}`, and not `{expect}`"))
        }
        Ok(None) => Some(format!("check {name}: there is no answer, or it is null")),
        Err(error) => Some(format!("check {name}: {}", shown(error, 300))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drctl_model::Equal;

    use super::*;

    fn check(name: &str, expect: &str) -> DrillCheck {
        DrillCheck {
            name: name.to_owned(),
            database: "shop".to_owned(),
            sql: "select true".to_owned(),
            expect: expect.to_owned(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_wrong_answer_and_none_at_all_fail_a_drill() {
        let came = || Came::of(DrillOutcome::Equal(Equal::default()), Vec::new());
        let (checks, yes) = ([check("a", "t"), check("b", "7")], || Ok(Some("t".to_owned())));
        let seven = || Ok(Some("7".to_owned()));
        let good = judged(came(), &checks, &[yes(), seven()]);
        assert!(matches!(good.outcome, DrillOutcome::Equal(_)) && good.why.is_empty());
        assert!(good.checks.iter().all(|check| check.passed));
        for (answer, words) in [
            (yes(), "check b: it is `t`, and not `7`"),
            (Ok(None), "check b: there is no answer, or it is null"),
            (Err("no table".to_owned()), "check b: no table"),
        ] {
            let bad = judged(came(), &checks, &[yes(), answer]);
            assert_eq!(bad.outcome, DrillOutcome::Failed { error: "check".to_owned() });
            assert_eq!(bad.why, [words]);
            let passed: Vec<bool> = bad.checks.iter().map(|check| check.passed).collect();
            assert_eq!(passed, [true, false]);
        }
        // What came to nothing stays that.
        let nothing = DrillOutcome::Inconclusive { error: "x".to_owned() };
        let came = judged(Came::of(nothing.clone(), Vec::new()), &checks, &[yes(), yes()]);
        assert_eq!(came.outcome, nothing);
    }
}
