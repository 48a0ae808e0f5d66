use proc_macro2::{TokenStream, TokenTree};

use crate::{Source, files, is_test, none, test_lines};

/// Rooms that serve every engine: they say *log*, *position* and *base*.
const COMMON: &[&str] = &[
    "agent/engines/src/common/",
    "agent/src/backup/",
    "agent/src/jobs/",
    "agent/src/log/",
    "agent/src/repository/",
    "agent/src/transfer/",
    "agent/store/src/",
    "catalog/src/",
];

const SQLITE: &str = "SQLite's own write-ahead log";

/// What says an engine's words all the same, and why: the list only shrinks.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("agent/src/repository/cache.rs", SQLITE),
    ("catalog/src/image.rs", SQLITE),
    ("catalog/src/lib.rs", SQLITE),
    ("catalog/src/open.rs", SQLITE),
    ("catalog/src/rebuild.rs", SQLITE),
];

/// Whether a word is one engine's: `pg`, `WalWalker`, `not_wal`, `pgBackRest`, `PostgreSQL`.
fn is_of_engine(word: &str) -> bool {
    let low = word.to_lowercase();
    let mut parts = Vec::new();
    for piece in word.split('_') {
        let mut part = String::new();
        let mut before = 'a';
        for sign in piece.chars() {
            if sign.is_uppercase() && !before.is_uppercase() {
                parts.push(std::mem::take(&mut part));
            }
            part.extend(sign.to_lowercase());
            before = sign;
        }
        parts.push(part);
    }
    let own = ["pg", "wal", "backrest", "pgbackrest"];
    low.contains("postgre") || low.contains("backrest") || parts.iter().any(|p| own.contains(&&**p))
}

/// Every word of a token that is an engine's, with the number of its line.
fn gather(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        let line = token.span().start().line - 1;
        let text = match token {
            TokenTree::Group(group) => {
                gather(group.stream(), found);
                continue;
            }
            TokenTree::Ident(word) => word.to_string(),
            TokenTree::Literal(literal) => literal.to_string(),
            TokenTree::Punct(_) => continue,
        };
        // An escape is no part of the word behind it.
        let text = text.replace("\\n", " ");
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        found.extend(words.filter(|w| is_of_engine(w)).map(|word| (line, word.to_owned())));
    }
}

/// An engine's words in a file of a common room: names, paths and texts, comments too where they
/// document an item.
fn engine_words(file: &Source) -> Vec<String> {
    let common = COMMON.iter().any(|room| file.path.starts_with(room));
    if !common || !file.path.ends_with(".rs") || is_test(&file.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    gather(file.text.parse().expect("Rust"), &mut found);
    let tests = test_lines(&file.text);
    found.retain(|(line, _)| !tests.contains(line));
    let told = found.into_iter().map(|(line, word)| format!("{}:{}: {word}", file.path, line + 1));
    told.collect()
}

/// What is found outside of the exceptions, and exceptions that nothing needs any more.
fn unexcepted(files: &[Source], exceptions: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let words = engine_words(file);
        let excepted = exceptions.iter().any(|(path, _)| *path == file.path);
        match (excepted, words.is_empty()) {
            (false, _) => wrong.extend(words),
            (true, true) => {
                wrong.push(format!("{}: an exception that it does not need", file.path))
            }
            (true, false) => {}
        }
    }
    let gone = exceptions.iter().filter(|(path, _)| !files.iter().any(|file| file.path == *path));
    wrong.extend(gone.map(|(path, _)| format!("{path}: an exception for no file")));
    wrong
}

#[test]
fn common_rooms_know_no_engine() {
    none(&unexcepted(&files(), EXCEPTIONS));
}

#[test]
fn the_words_of_an_engine_are_found() {
    for word in ["pg", "PgServer", "pg_wal", "WAL", "WalWalker", "not_wal", "pgBackRest", "Wal"] {
        assert!(is_of_engine(word), "{word}");
    }
    for word in ["PostgreSQL", "postgres", "tokio_postgres", "pgbackrest", "BackRest", "PgDump"] {
        assert!(is_of_engine(word), "{word}");
    }
    for word in ["log", "walk", "WalkDir", "page", "Walker", "upgrade", "backup", "rest", "walled"]
    {
        assert!(!is_of_engine(word), "{word}");
    }
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let text = "use drctl_engines::pg::X;\n// pg is not said.\n/// As WAL has it.\nfn a() {}\n\
                const B: &str = \"the\\nwal\";\nfn walk() {}\n#[cfg(test)]\nmod t { fn pg() {} }\n";
    let found = engine_words(&file("agent/src/log/x.rs", text));
    let at = |line: u32, word: &str| format!("agent/src/log/x.rs:{line}: {word}");
    assert_eq!(found, [at(1, "pg"), at(3, "WAL"), at(5, "wal")]);
    assert_eq!(engine_words(&file("agent/src/engine/pg/x.rs", text)), [""; 0]);
    let files = [file("catalog/src/a.rs", "fn wal() {}"), file("catalog/src/b.rs", "fn a() {}")];
    assert_eq!(unexcepted(&files, &[]), ["catalog/src/a.rs:1: wal"]);
    assert_eq!(unexcepted(&files, &[("catalog/src/a.rs", SQLITE)]), [""; 0]);
    let stale = unexcepted(&files, &[("catalog/src/b.rs", SQLITE), ("catalog/src/c.rs", SQLITE)]);
    assert_eq!(stale.len(), 3, "{stale:?}");
}
