//! What people read uses the words of PostgreSQL's manual, and not others that were ours once.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{Source, files, is_test, none, test_lines};

/// Phrases that were ours, and what the field says.
const OURS: &[(&str, &str)] = &[
    ("laid out", "extracted"),
    ("lay out", "extract"),
    ("lays out", "extracts"),
    ("stands on", "is based on"),
    ("stand on", "be based on"),
    ("copy of a cluster", "base backup"),
    ("copy of a whole cluster", "base backup of a whole cluster"),
    ("copies of a cluster", "base backups"),
    ("copies of clusters", "base backups"),
    ("full copy", "full backup"),
    ("full copies", "full backups"),
    ("incremental copy", "incremental backup"),
    ("incremental copies", "incremental backups"),
    ("chain of copies", "chain of backups"),
    ("piece of log", "piece of WAL"),
    ("pieces of log", "pieces of WAL"),
];

/// Where the words of every engine count, and not only PostgreSQL's.
const EVERY_LOG: &[&str] = &["ARCHITECTURE.md", "catalog/"];

/// The string literals of the product's code; `help` adds the comments that document items, which
/// clap shows.
fn literals(tokens: TokenStream, help: bool, found: &mut Vec<(usize, String)>) {
    let mut attribute = false;
    for token in tokens {
        let line = token.span().start().line - 1;
        match token {
            TokenTree::Group(group) => {
                let documents = attribute
                    && group.delimiter() == Delimiter::Bracket
                    && group.stream().to_string().starts_with("doc");
                if help || !documents {
                    literals(group.stream(), help, found);
                }
                attribute = false;
            }
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                found.extend(text.map(|text| (line, text.value())));
                attribute = false;
            }
            TokenTree::Punct(sign) => attribute = matches!(sign.as_char(), '#' | '!'),
            TokenTree::Ident(_) => attribute = false,
        }
    }
}

/// What people read of a file: pages as they are, of code its messages and its help.
fn read_by_people(file: &Source) -> String {
    if !file.path.ends_with(".rs") {
        let page = file.path.ends_with(".md") || file.path.starts_with("packaging/");
        return if page { file.text.clone() } else { String::new() };
    }
    if is_test(&file.path) {
        return String::new();
    }
    let mut found = Vec::new();
    let help = file.path.starts_with("agent/src/cli/args");
    literals(file.text.parse().expect("Rust"), help, &mut found);
    let tests = test_lines(&file.text);
    found.retain(|(line, _)| !tests.contains(line));
    let texts: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    texts.join("\n")
}

fn of_ours(file: &Source) -> Vec<String> {
    let text = read_by_people(file).to_lowercase();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let every_log = EVERY_LOG.iter().any(|place| file.path.starts_with(place));
    let said = |phrase: &str| {
        let inside = |at: usize| {
            let (before, after) = (&text[..at], &text[at + phrase.len()..]);
            before.ends_with(char::is_alphanumeric) || after.starts_with(char::is_alphanumeric)
        };
        text.match_indices(phrase).any(|(at, _)| !inside(at))
    };
    let counts = |phrase: &str| !(every_log && phrase.ends_with(" of log"));
    let found = OURS.iter().filter(|(phrase, _)| counts(phrase) && said(phrase));
    found.map(|(ours, field)| format!("{}: say {field}, not {ours}", file.path)).collect()
}

#[test]
fn what_people_read_uses_the_words_of_the_field() {
    let found: Vec<String> = files().iter().flat_map(of_ours).collect();
    none(&found);
}

#[test]
fn every_phrase_of_ours_is_found_where_people_read_it() {
    let found = |path: &str, text: &str| {
        of_ours(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    };
    for (phrase, _) in OURS {
        let (first, rest) = phrase.split_once(' ').expect("two words");
        assert_eq!(found("docs/x.md", &format!("it is {first}\n  {rest}.\n")), 1, "{phrase}");
        let code = format!("const X: &str = \"it is {first} \\\n    {rest}.\";\n");
        assert_eq!(found("agent/src/x.rs", &code), 1, "{phrase}");
        let inner = format!("fn x() {{ say(format!(\"{phrase}: {{}}\", 1)); }}\n");
        assert_eq!(found("policies/src/x.rs", &inner), 1, "{phrase}");
        let help = format!("/// It is {first}\n/// {rest}.\nstruct X;\n");
        assert_eq!(found("agent/src/cli/args/x.rs", &help), 1, "{phrase}");
        // Comments are for developers, and tests quote what they refuse.
        assert_eq!(found("agent/src/x.rs", &help), 0, "{phrase}");
        assert_eq!(found("tests/tests/x.rs", &code), 0, "{phrase}");
        let within = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(found("agent/src/x.rs", &within), 0, "{phrase}");
        assert_eq!(found("docs/x.md", &format!("a{phrase} or {phrase}y\n")), 0, "{phrase}");
    }
    assert_eq!(found("catalog/FORMAT.md", "a piece of log"), 0, "of any engine");
}
