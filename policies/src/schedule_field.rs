//! The grammar of one field of a cron line: stricter than the library's, with messages that say
//! which part is wrong. The library takes `MON` for an hour of 1 and `1,,2` for `1,2`.

/// One of the five fields.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    min: u16,
    max: u16,
    /// Names for the values from `min` on.
    names: &'static [&'static str],
    extra: Extra,
}

#[derive(PartialEq, Eq)]
enum Extra {
    None,
    /// `L`, `LW` and `15W`.
    MonthDay,
    /// `5L` and `5#2`.
    WeekDay,
}

const MONTHS: &[&str] =
    &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Minute, hour, day of month, month, day of week.
pub(crate) const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[], extra: Extra::None },
    Field { name: "hour", min: 0, max: 23, names: &[], extra: Extra::None },
    Field { name: "day of month", min: 1, max: 31, names: &[], extra: Extra::MonthDay },
    Field { name: "month", min: 1, max: 12, names: MONTHS, extra: Extra::None },
    Field { name: "day of week", min: 0, max: 7, names: WEEKDAYS, extra: Extra::WeekDay },
];

impl Field {
    /// Says what is wrong with the text of this field.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        text.split(',').try_for_each(|item| self.check_item(item))
    }

    fn check_item(&self, item: &str) -> Result<(), String> {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        if base.is_empty() {
            return Err("a value is missing".to_owned());
        }
        let range = base.split_once('-');
        match (range, step) {
            (Some((from, to)), _) => {
                let from = self.value(from)?;
                // SAT-SUN: as an end, Sunday is 7.
                let to = if to.eq_ignore_ascii_case("SUN") && self.max == 7 { "7" } else { to };
                if from > self.value(to)? {
                    return Err("the range runs backwards".to_owned());
                }
            }
            (None, _) if base == "*" => {}
            (None, Some(step)) => {
                return Err(format!("a step needs a range: write {base}-{}/{step}", self.max));
            }
            (None, None) => self.check_single(base)?,
        }
        step.map_or(Ok(()), |step| self.check_step(step))
    }

    fn check_single(&self, text: &str) -> Result<(), String> {
        let upper = text.to_ascii_uppercase();
        match self.extra {
            Extra::MonthDay if upper == "L" || upper == "LW" => return Ok(()),
            Extra::MonthDay => {
                if let Some(day) = upper.strip_suffix('W') {
                    return self.value(day).map(drop);
                }
            }
            Extra::WeekDay => {
                if let Some((day, nth)) = upper.split_once('#') {
                    self.value(day)?;
                    return match nth {
                        "1" | "2" | "3" | "4" | "5" | "L" => Ok(()),
                        _ => Err("after # comes 1 to 5 or L".to_owned()),
                    };
                }
                if let Some(day) = upper.strip_suffix('L') {
                    return self.value(day).map(drop);
                }
            }
            Extra::None => {}
        }
        self.value(text).map(drop)
    }

    fn check_step(&self, step: &str) -> Result<(), String> {
        let most = self.max - self.min;
        match digits(step) {
            Some(step) if (1..=most).contains(&step) => Ok(()),
            _ => Err(format!("the step must be 1 to {most}")),
        }
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(at) = named {
            return Ok(self.min + at as u16);
        }
        match digits(text) {
            Some(value) if (self.min..=self.max).contains(&value) => Ok(value),
            _ => Err(format!("{text} is not in {} to {}", self.min, self.max)),
        }
    }
}

fn digits(text: &str) -> Option<u16> {
    // `parse` would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let cases: &[(usize, &str, Result<(), &str>)] = &[
            (0, "*", Ok(())),
            (0, "*/15", Ok(())),
            (0, "0,30", Ok(())),
            (0, "10-40/5", Ok(())),
            (0, "60", Err("60 is not in 0 to 59")),
            (0, "1,,2", Err("a value is missing")),
            (0, "", Err("a value is missing")),
            (0, "/5", Err("a value is missing")),
            (0, "5/10", Err("a step needs a range: write 5-59/10")),
            (0, "*/0", Err("the step must be 1 to 59")),
            (0, "*/90", Err("the step must be 1 to 59")),
            (0, "+5", Err("+5 is not in 0 to 59")),
            (1, "24", Err("24 is not in 0 to 23")),
            (1, "MON", Err("MON is not in 0 to 23")),
            (1, "22-4", Err("the range runs backwards")),
            (2, "0", Err("0 is not in 1 to 31")),
            (2, "L", Ok(())),
            (2, "LW", Ok(())),
            (2, "15w", Ok(())),
            (2, "32W", Err("32 is not in 1 to 31")),
            (3, "jan,DEC", Ok(())),
            (3, "13", Err("13 is not in 1 to 12")),
            (3, "L", Err("L is not in 1 to 12")),
            (4, "MON-FRI", Ok(())),
            (4, "SAT-SUN", Ok(())),
            (4, "FRI-MON", Err("the range runs backwards")),
            (4, "5L", Ok(())),
            (4, "FRI#2", Ok(())),
            (4, "5#6", Err("after # comes 1 to 5 or L")),
            (4, "8", Err("8 is not in 0 to 7")),
            (4, "MONDAY", Err("MONDAY is not in 0 to 7")),
        ];
        for (field, text, expected) in cases {
            let found = FIELDS[*field].check(text);
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
        }
    }
}
