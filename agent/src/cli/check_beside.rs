use std::fmt::Write as _;

use serde_json::{Value, json};

use super::lost::{back_json, back_text, lost_json, lost_text};
use super::newer::closed_text;
use super::screen::line;
use crate::health::Beside;

impl Beside {
    /// Adds it to an answer.
    pub(super) fn tell(&self, object: &mut Value) {
        object["lost"] = lost_json(&self.lost);
        object["refused"] = json!(self.refused);
        object["newer"] = json!(self.newer);
        object["strangers"] = json!(self.strangers);
        object["removed"] = back_json(&self.back);
        object["strays"] = json!(self.strays);
        object["closed"] = json!(self.closed.texts());
    }

    /// The same for people, a line each.
    pub(super) fn text(&self) -> String {
        let mut text = lost_text(&self.lost);
        text.push_str(&back_text(&self.back));
        for why in &self.refused {
            let _ = write!(text, "\nREFUSED: {}", line(why));
        }
        for why in &self.newer {
            let _ = write!(text, "\nNEWER: {}", line(why));
        }
        for why in &self.strangers {
            let _ = write!(text, "\nSTRANGE: {}", line(why));
        }
        for stray in &self.strays {
            let _ = write!(text, "\nstray: {}", line(stray));
        }
        text + &closed_text(&self.closed)
    }
}
