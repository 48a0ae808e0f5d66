use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::{Source, files, none};

/// The rooms of a crate, in order: each may use those before it.
#[derive(Debug, PartialEq, Eq)]
struct House {
    /// Where they lie: `agent/src`.
    folder: String,
    /// Folders below it: `host`, `pg/server`.
    rooms: Vec<String>,
}

impl House {
    /// The room that a file or a module lies in, by its place below the folder.
    fn room(&self, place: &str) -> Option<usize> {
        let within = |room: &String| place.strip_prefix(room).is_some_and(|r| r.starts_with('/'));
        self.rooms.iter().position(within)
    }

    /// Whether a file is at the door: what rooms show to others, and no room itself.
    fn is_door(&self, name: &str) -> bool {
        let folder = name.strip_suffix("mod.rs").unwrap_or_default();
        let is_room = || self.rooms.iter().any(|room| folder.strip_suffix('/') == Some(room));
        let leads = |room: &String| !folder.is_empty() && room.starts_with(folder);
        let leads = || self.rooms.iter().any(leads) && !is_room();
        matches!(name, "lib.rs" | "main.rs") || leads()
    }
}

/// What uses a room behind its own until it is mended, and what it uses: the list only shrinks.
const NOT_YET: &[(&str, &str)] = &[];

/// The houses that ARCHITECTURE.md draws: sections of a folder that have a numbered list of rooms.
fn houses(page: &str) -> Vec<House> {
    let mut found: Vec<House> = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### `") {
            let folder = title.trim_end_matches('`').to_owned();
            found.push(House { folder, rooms: Vec::new() });
        }
        let item = line.split_once(". `").filter(|(number, _)| number.parse::<u32>().is_ok());
        let room = item.and_then(|(_, rest)| rest.split_once("/`: "));
        if let (Some((room, _)), Some(house)) = (room, found.last_mut()) {
            house.rooms.push(room.to_owned());
        }
    }
    found.retain(|house| !house.rooms.is_empty());
    found
}

/// Every path of a file that leaves its module, from the crate's root on.
struct Named {
    /// The module that is being read.
    module: Vec<String>,
    paths: BTreeSet<Vec<String>>,
}

impl Named {
    fn note(&mut self, path: &[String]) {
        let mut rest = path;
        let mut from = match rest.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        while let Some((word, behind)) = rest.split_first() {
            match word.as_str() {
                "super" => drop(from.pop()),
                "crate" | "self" => {}
                _ => break,
            }
            rest = behind;
        }
        from.extend(rest.iter().cloned());
        self.paths.insert(from);
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |word: &syn::Ident| [before, &[word.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.note(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree))
            }
        }
    }

    /// What a macro is given is no syntax yet: words with colons between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.note(&std::mem::take(&mut path));
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note(&std::mem::take(&mut path));
                    self.tokens(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.note(&std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    /// Who may see an item is no use of the room that is named there.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|one| one.ident.to_string()).collect();
        self.note(&words);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        visit::visit_macro(self, called);
        self.tokens(called.tokens.clone());
    }
}

/// The module that a file is, by its name below the crate's folder.
fn module(name: &str) -> Vec<String> {
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').map(str::to_owned).collect()
}

/// What of a file of this house does not keep to the order, or lies in no room.
fn upward(house: &House, file: &Source) -> Vec<String> {
    let below = file.path.strip_prefix(&house.folder).and_then(|rest| rest.strip_prefix('/'));
    let Some(name) = below.filter(|name| name.ends_with(".rs")) else { return Vec::new() };
    if house.is_door(name) {
        return Vec::new();
    }
    let mut named = Named { module: module(name), paths: BTreeSet::new() };
    let Some(here) = house.room(name) else {
        return vec![format!("{} lies in no room of {}", file.path, house.folder)];
    };
    named.visit_file(&syn::parse_file(&file.text).expect("Rust"));
    let wrong = named.paths.iter().filter(|path| !path.is_empty()).filter_map(|path| {
        let whole = path.join("::");
        match house.room(&(path.join("/") + "/")) {
            None => Some(format!("{}: {whole} is in no room", file.path)),
            Some(there) if there > here => {
                Some(format!("{}: {} may not use {whole}", file.path, house.rooms[here]))
            }
            Some(_) => None,
        }
    });
    wrong.collect()
}

/// Rooms that are drawn and not there.
fn empty(house: &House, files: &[Source]) -> Vec<String> {
    let has = |room: &&String| {
        let place = format!("{}/{room}/", house.folder);
        !files.iter().any(|file| file.path.starts_with(&place))
    };
    house.rooms.iter().filter(has).map(|room| format!("{}: no {room}", house.folder)).collect()
}

#[test]
fn rooms_use_only_those_before_them() {
    let files = files();
    let page = files.iter().find(|file| file.path == "ARCHITECTURE.md").expect("the page");
    let houses = houses(&page.text);
    let rooms = |folder: &str| {
        let found = houses.iter().find(|house| house.folder == folder);
        &found.unwrap_or_else(|| panic!("the rooms of {folder}")).rooms
    };
    assert_eq!(rooms("agent/src").last().map(String::as_str), Some("cli"), "nobody may use it");
    assert_eq!(rooms("agent/engines/src").first().map(String::as_str), Some("common"));
    let wrong = |house: &House| {
        let found = files.iter().flat_map(|file| upward(house, file));
        found.chain(empty(house, &files)).collect::<Vec<_>>()
    };
    none(&mended(houses.iter().flat_map(wrong).collect(), NOT_YET));
}

/// What is found without what is known, and what is known and not found any more.
fn mended(found: Vec<String>, known: &[(&str, &str)]) -> Vec<String> {
    let is = |line: &String, (path, used): &(&str, &str)| {
        line.starts_with(&format!("{path}: ")) && line.contains(&format!("may not use {used}"))
    };
    let stale = known.iter().filter(|one| !found.iter().any(|line| is(line, one)));
    let stale: Vec<String> = stale.map(|one| format!("{one:?} is mended: remove it")).collect();
    let new = found.into_iter().filter(|line| !known.iter().any(|one| is(line, one)));
    new.chain(stale).collect()
}

#[test]
fn what_is_mended_may_not_stay_in_the_list() {
    let found = || vec!["a.rs: x may not use y::Z".to_owned(), "b.rs: w is in no room".to_owned()];
    assert_eq!(mended(found(), &[]), found());
    assert_eq!(mended(found(), &[("a.rs", "y::")]), found()[1..]);
    let stale = mended(found(), &[("a.rs", "y::"), ("b.rs", "y::")]);
    assert_eq!(stale, [&found()[1], "(\"b.rs\", \"y::\") is mended: remove it"]);
}

#[test]
fn an_arrow_upward_is_found() {
    let page = "### `agent/x/src`\n\n- `lib.rs`: all\n\n### `agent/src`\n\n1. `host/`: low\n\
                2. `log/`: more\n3. `cli/`: people\n\n- `host/mod.rs`: it\n";
    let houses = houses(page);
    let rooms = ["host", "log", "cli"].map(str::to_owned).to_vec();
    assert_eq!(houses, [House { folder: "agent/src".to_owned(), rooms }]);
    let found = |path: &str, text: &str| {
        upward(&houses[0], &Source { path: path.to_owned(), text: text.to_owned() })
    };
    for (path, text, wrong) in [
        ("agent/src/log/mod.rs", "use crate::host::Setup;\nuse super::host::x as y;\n", ""),
        (
            "agent/src/log/push/mod.rs",
            "use super::{LogStore, x::y};\nmod t { use super::*; }\n",
            "",
        ),
        ("agent/src/lib.rs", "use cli::x;\n", ""),
        ("agent/x/src/log.rs", "use crate::cli::x;\n", ""),
        ("agent/src/host/x.rs", "use crate::{Y, host::z};\n", "Y is in no room"),
        (
            "agent/src/host/x.rs",
            "pub use crate::{host::Setup, log::LogStore as S};\n",
            "log::LogStore",
        ),
        ("agent/src/host/x.rs", "use crate::log::*;\n", "may not use log"),
        ("agent/src/log/mod.rs", "fn a() { super::cli::bytes(1); }\n", "may not use cli::bytes"),
        ("agent/src/log/x.rs", "use super::super::cli;\n", "log may not use cli"),
        ("agent/src/log/x/y.rs", "mod t { use super::super::super::super::cli::z; }\n", "cli::z"),
        ("agent/src/log/x.rs", "fn a() { f!(\"{}\", g(crate::cli::number(2))); }\n", "cli::number"),
        ("agent/src/log/x.rs", "impl crate::cli::T for u8 { }\n", "cli::T"),
        ("agent/src/log/x.rs", "#[cfg(test)]\nmod tests { use crate::cli::T; }\n", "cli::T"),
        ("agent/src/loose.rs", "", "lies in no room"),
        ("agent/src/attic/x.rs", "", "lies in no room"),
    ] {
        let found = found(path, text);
        assert_eq!(found.len(), usize::from(!wrong.is_empty()), "{path}: {text}: {found:?}");
        assert!(found.iter().all(|one| one.contains(wrong)), "{path}: {text}: {found:?}");
    }
    assert_eq!(empty(&houses[0], &[]).len(), 3);
}

#[test]
fn a_room_within_a_folder_has_its_place_in_the_order_too() {
    let rooms = ["common", "pg/server", "pg/dump", "backrest"].map(str::to_owned).to_vec();
    let house = House { folder: "e/src".to_owned(), rooms };
    for (path, text, wrong) in [
        ("e/src/pg/mod.rs", "pub use dump::Source;\nuse crate::backrest::X;\n", ""),
        ("e/src/pg/dump/x.rs", "use crate::pg::server::Y;\nuse super::super::server::z;\n", ""),
        ("e/src/pg/server/x.rs", "pub(in crate::pg) fn a() {}\n", ""),
        ("e/src/pg/server/x.rs", "use super::dump;\nuse super::*;\n", ""),
        ("e/src/pg/server/x.rs", "use crate::pg::dump::Y;\n", "pg/server may not use pg::dump::Y"),
        ("e/src/pg/server/x.rs", "use super::super::dump::Y;\n", "may not use pg::dump::Y"),
        ("e/src/pg/server/mod.rs", "use super::dump::Y;\n", "may not use pg::dump::Y"),
        ("e/src/pg/server/x.rs", "use crate::pg::Y;\n", "pg::Y is in no room"),
        ("e/src/common/mod.rs", "use crate::pg::server::Y;\n", "common may not use pg::server"),
        ("e/src/pg/server.rs", "", "lies in no room"),
        ("e/src/pg/x.rs", "", "lies in no room"),
        ("e/src/common.rs", "", "lies in no room"),
    ] {
        let found = upward(&house, &Source { path: path.to_owned(), text: text.to_owned() });
        assert_eq!(found.len(), usize::from(!wrong.is_empty()), "{path}: {text}: {found:?}");
        assert!(found.iter().all(|one| one.contains(wrong)), "{path}: {text}: {found:?}");
    }
}

#[test]
fn a_room_within_another_one_comes_before_it() {
    let rooms = ["log", "engine/wal", "engine", "cli"].map(str::to_owned).to_vec();
    let house = House { folder: "a/src".to_owned(), rooms };
    for (path, text, wrong) in [
        ("a/src/engine/pg/x.rs", "use crate::engine::wal::X;\nuse crate::engine::Y;\n", ""),
        ("a/src/engine/mod.rs", "use crate::log::X;\nuse crate::engine::wal::X;\n", ""),
        ("a/src/engine/wal/mod.rs", "use crate::log::X;\nuse self::push::Y;\n", ""),
        ("a/src/engine/wal/x.rs", "use crate::engine::pg::Y;\n", "wal may not use engine::pg::Y"),
        ("a/src/engine/wal/x.rs", "use super::super::Y;\n", "wal may not use engine::Y"),
        ("a/src/log/x.rs", "use crate::engine::wal::Y;\n", "log may not use engine::wal::Y"),
        ("a/src/engine/mod.rs", "use crate::cli::X;\n", "engine may not use cli::X"),
    ] {
        let found = upward(&house, &Source { path: path.to_owned(), text: text.to_owned() });
        assert_eq!(found.len(), usize::from(!wrong.is_empty()), "{path}: {text}: {found:?}");
        assert!(found.iter().all(|one| one.contains(wrong)), "{path}: {text}: {found:?}");
    }
}
