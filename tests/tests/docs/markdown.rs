//! As much of Markdown as our pages use.

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line it begins in, from 1.
    pub(crate) line: usize,
    /// The first word behind the fence.
    pub(crate) language: String,
    /// What follows that word.
    pub(crate) rest: String,
    /// What is in it, less the indentation of its fence.
    pub(crate) text: String,
}

/// The fenced blocks of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (at, line) in page.lines().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        match (&mut open, body.strip_prefix("```")) {
            (None, Some(info)) => {
                let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
                let (language, rest) = (language.to_owned(), rest.to_owned());
                open = Some((indent, Block { line: at + 1, language, rest, text: String::new() }));
            }
            (Some(_), Some("")) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or(body));
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is never closed: {open:?}");
    found
}

/// The page without its fenced blocks.
pub(crate) fn prose(page: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The headings of a page with what stands below each, up to the next one.
pub(crate) fn sections(page: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in prose(page).lines() {
        match line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) {
            Some(title) => found.push((title.to_owned(), String::new())),
            None => {
                if let Some((_, text)) = found.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    found
}

/// The rows of the tables in a text, their heads left out.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_row = |line: &str| line.starts_with('|');
    let is_rule = |line: &&str| is_row(line) && line.chars().all(|c| "|-: ".contains(c));
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_head = lines.get(at + 1).is_some_and(is_rule);
        if is_row(line) && !is_head && !is_rule(line) {
            found.push(cells(line));
        }
    }
    found
}

fn cells(row: &str) -> Vec<String> {
    let inner = row.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner).replace("\\|", "\u{0}");
    inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// What stands between backticks.
pub(crate) fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Where the links of a page lead.
pub(crate) fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned()).collect()
}

/// The name that a heading has in a link.
pub(crate) fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn markdown_is_read_as_it_is_meant() {
    let page = "# A b\n\n| x | y |\n|---|---|\n| `p`, `q` | a\\|b |\n\n1. z\n\n   ```console exit=3\n   \
                one\n     two\n   ```\n\n## C, [d](e.md#f)!\n";
    let block = &blocks(page)[0];
    let expected = (9, "console", "exit=3", "one\n  two\n");
    assert_eq!((block.line, &*block.language, &*block.rest, &*block.text), expected);
    assert_eq!(rows(page), [["`p`, `q`", "a|b"]]);
    assert_eq!(codes("`p`, `q`"), ["p", "q"]);
    assert_eq!(links(page), ["e.md#f"]);
    let titles: Vec<String> = sections(page).into_iter().map(|(title, _)| title).collect();
    assert_eq!(titles, ["A b", "C, [d](e.md#f)!"]);
    assert_eq!(anchor("C. The host's gone, too"), "c-the-hosts-gone-too");
}
