use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::markdown::{anchor, links, sections};
use crate::{pages, read, root};

fn anchors(page: &str) -> BTreeSet<String> {
    sections(page).iter().map(|(title, _)| anchor(title)).collect()
}

/// `docs/../runbooks/x.md` is `runbooks/x.md`.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            part => found.push(part),
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let folder = Path::new(&page).parent().expect("a folder").to_owned();
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            let (path, name) = link.split_once('#').unwrap_or((&link, ""));
            let to = if path.is_empty() { PathBuf::from(&page) } else { plain(&folder.join(path)) };
            let there = root().join(&to).exists();
            let text = || read(to.to_str().expect("a path in UTF-8"));
            if !there || !(name.is_empty() || anchors(&text()).contains(name)) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_can_be_reached() {
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut new = vec!["README.md".to_owned()];
    while let Some(page) = new.pop() {
        let folder = Path::new(&page).parent().expect("a folder").to_owned();
        for link in links(&read(&page)) {
            let to = plain(&folder.join(link.split('#').next().unwrap_or_default()));
            let to = to.to_string_lossy().into_owned();
            let all = match to.as_str() {
                // A link to the folder is one to all that is in it.
                "runbooks" => pages().into_iter().filter(|p| p.starts_with("runbooks/")).collect(),
                _ => vec![to],
            };
            for to in all {
                if pages().contains(&to) && reached.insert(to.clone()) {
                    new.push(to);
                }
            }
        }
    }
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), pages());
}
