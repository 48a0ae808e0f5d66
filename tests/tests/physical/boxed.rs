//! A server that replays the data of a source which may be an intruder's: what reaches it, and what
//! it reaches.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use drctl_tests::cluster::{Cluster as _, own_place};
use drctl_tests::site::Ran;

use crate::log::{Archiving, several};
use crate::recover_choice::Ends;

/// A command under an account that has nothing to do with the source's.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// The same command with a umask that takes nothing away.
fn without_umask(mut command: Command) -> Command {
    // A shell sets it, and becomes the program.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).current_dir("/");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::null());
    shell.process_group(0);
    shell
}

/// What of these places another account can read, write or enter.
fn open_to_others(places: &[&Path]) -> String {
    let mut find = as_nobody("find");
    find.args(places).args(["(", "-readable", "-o", "-writable", ")", "-not", "-type", "l"]);
    String::from_utf8_lossy(&find.output().expect("start find").stdout).into_owned()
}

/// A recovery that leaves its server open: its answer, a folder to be kept, its directory.
fn opened(shop: &Archiving, last: &str) -> (serde_json::Value, tempfile::TempDir, PathBuf) {
    let (folder, path) = own_place();
    let to = path.display().to_string();
    let all = ["--json", "restore", "shop", "--to-time", last, "--to-directory", &to, "--open"];
    let ran = without_umask(shop.command(&all)).output().expect("start drctl");
    (Ran::of(&ran).ended(0).json(), folder, path)
}

#[test]
fn private_by_construction_a_recovering_server_is_reached_by_nobody_else() {
    let (shop, last) = several();
    let (open, _folder, path) = opened(&shop, &last);
    let _ends = Ends(path.clone());
    let socket = open["socket"].as_str().expect("a socket");
    let psql = |mut command: Command| {
        command.args(["-XAtq", "-h", socket, "-U", "postgres", "-c", "select 1", "postgres"]);
        command.output().unwrap()
    };
    let program = shop.server.bin_dir().join("psql");
    assert!(psql(shop.as_owner(&program)).status.success());
    assert!(!psql(as_nobody(&program)).status.success());
    assert_eq!(open_to_others(&[Path::new(socket), &path]), "");
    // Where somebody opens the directory, the server still asks the kernel who it is.
    for place in [socket.to_owned(), format!("{socket}/.s.PGSQL.5432")] {
        assert!(Command::new("chmod").args(["0777", &place]).status().unwrap().success());
    }
    let said = psql(as_nobody(&program));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("Peer authentication failed"), "{said}");
}
