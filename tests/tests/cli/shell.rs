use std::fs;
use std::process::{Command, Stdio};

use drctl_tests::site::{Ran, Site};

/// Runs a program on a text; nothing when it is not installed.
fn run(program: &str, arguments: &[&str], path: &std::path::Path) -> Option<Ran> {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdin(Stdio::null()).env("MANWIDTH", "80");
    match command.output() {
        Ok(output) => Some(Ran::of(&output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn completions_load() {
    let site = Site::empty();
    // What checks a shell's syntax, and what must be in it. bash is everywhere; the other shells
    // are looked at by themselves where they are installed.
    let shells: &[(&str, &[&str], &str)] = &[
        ("bash", &["-n"], "complete -F _drctl"),
        ("zsh", &["-n"], "#compdef drctl"),
        ("fish", &["--no-execute"], "complete -c drctl"),
    ];
    for (shell, check, needed) in shells {
        let script = site.drctl(&["completions", shell]).ended(0);
        assert!(script.out.contains(needed), "{shell}");
        for word in ["backup", "restore", "to-files", "new-identity"] {
            assert!(script.out.contains(word), "{shell}: {word}");
        }
        let path = site.path(shell);
        fs::write(&path, &script.out).expect("write the completions");
        match run(shell, check, &path) {
            Some(ran) => assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{shell}"),
            None => assert_ne!(*shell, "bash", "bash is missing: apt-get install bash"),
        }
    }
    let loads = "set -eu; source \"$1\"; complete -p drctl";
    let bash = Command::new("bash").args(["-c", loads, "bash"]).arg(site.path("bash")).output();
    let ran = Ran::of(&bash.expect("start bash")).ended(0);
    assert!(ran.out.contains("_drctl"), "{}", ran.out);
}

#[test]
fn manual_pages_render() {
    let site = Site::empty();
    let ran = site.drctl(&["man", "pages"]).ended(0);
    let pages = site.files("pages");
    assert_eq!(ran.out, "");
    assert_eq!(ran.err, format!("wrote {} pages into pages\n", pages.len()));
    assert!(pages.len() >= 22, "{pages:?}");
    for page in &pages {
        let path = site.path("pages").join(page);
        let rendered = ["man", "groff"].into_iter().find_map(|program| {
            let arguments: &[&str] = match program {
                "man" => &["--warnings", "-l"],
                _ => &["-ww", "-man", "-Tutf8"],
            };
            run(program, arguments, &path)
        });
        let rendered =
            rendered.expect("man or groff is missing: apt-get install man-db groff-base");
        let rendered = rendered.ended(0);
        assert_eq!(rendered.err, "", "{}", page.display());
        assert!(rendered.out.contains("SYNOPSIS"), "{}", page.display());
    }
    // Whatever a page refers to is one.
    let main = fs::read_to_string(site.path("pages/drctl.1")).expect("the main page");
    let named = main.lines().filter_map(|line| line.strip_suffix("(1)"));
    let named: Vec<String> = named.map(|name| name.replace('\\', "") + ".1").collect();
    assert!(named.len() >= 13, "{named:?}");
    for name in named {
        assert!(pages.iter().any(|page| page.as_os_str() == name.as_str()), "{name}");
    }
    let plain = main.replace('\\', "");
    for (exit, name, _) in drctl::Exit::TABLE {
        assert!(plain.contains(&format!("{name}: ")), "{} {name}", exit.code());
    }
}
