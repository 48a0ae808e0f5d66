use crate::{Source, files, is_test, none};

/// Where only what is alike for all engines is known.
const COMMON: &[&str] = &["policies/src/recovery/common/"];

/// What only one engine has.
const WORDS: &[&str] = &[
    "wal",
    "pg",
    "lsn",
    "xid",
    "xids",
    "timeline",
    "timelines",
    "segment",
    "segments",
    "postgresql",
    "backrest",
    "pgbackrest",
    "binlog",
    "oplog",
];

fn named(file: &Source) -> Vec<String> {
    if is_test(&file.path) || !COMMON.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let text = file.text.to_lowercase();
    let said = |word: &&&str| text.split(|c: char| !c.is_alphanumeric()).any(|one| one == **word);
    WORDS.iter().filter(said).map(|word| format!("{}: {word}", file.path)).collect()
}

#[test]
fn what_is_common_to_all_engines_names_none() {
    let files = files();
    for place in COMMON {
        assert!(files.iter().any(|file| file.path.starts_with(place)), "{place} is empty");
    }
    none(&files.iter().flat_map(named).collect::<Vec<_>>());
}

#[test]
fn an_engines_word_is_found() {
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    for word in WORDS {
        let text = format!("/// The {}.\nfn of_{word}_and(x: Cut) {{}}\n", word.to_uppercase());
        assert_eq!(named(&file("policies/src/recovery/common/x.rs", &text)).len(), 1, "{word}");
        assert_eq!(named(&file("policies/src/recovery/x.rs", &text)), [""; 0], "{word}");
    }
    let plain = file("policies/src/recovery/common/x.rs", "fn walk(segmented: Pages) {}\n");
    assert_eq!(named(&plain), [""; 0]);
}
