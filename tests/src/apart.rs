//! A site of which one folder, such as its repository, lies on a file system of its own, which comes and
//! goes: only in a mount namespace that goes with it. Everywhere else, and wherever it is not mounted, its
//! place is an empty directory.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

use crate::site::Site;

/// The namespace, for as long as this lives.
pub struct Apart {
    holder: Child,
    folder: PathBuf,
}

impl Apart {
    /// Puts the site's repository onto a tmpfs, with the same owner.
    ///
    /// # Panics
    /// If that cannot be done: it takes root.
    #[must_use]
    pub fn of(site: &Site) -> Self {
        Apart::with(site, "repository")
    }

    /// The same for another folder of the site, with what is in it.
    ///
    /// # Panics
    /// If that cannot be done: it takes root.
    #[must_use]
    pub fn with(site: &Site, folder: &str) -> Self {
        assert!(geteuid().is_root(), "run this as root: it mounts a file system");
        let text = "set -eu\nmv \"$FOLDER\" \"$SITE/kept\"\nmkdir \"$FOLDER\" \"$SITE/disk\"\n\
            chown --reference \"$SITE/kept\" \"$FOLDER\"; chmod --reference \"$SITE/kept\" \"$FOLDER\"\n\
            mount -t tmpfs -o size=256m none \"$SITE/disk\"\n\
            chown --reference \"$SITE/kept\" \"$SITE/disk\"; chmod --reference \"$SITE/kept\" \"$SITE/disk\"\n\
            cp -a \"$SITE/kept/.\" \"$SITE/disk/\"\nmount --bind \"$SITE/disk\" \"$FOLDER\"\n\
            echo ready; exec cat > /dev/null";
        let folder = site.path(folder);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "bash", "-c", text]);
        unshare.env("SITE", site.path("")).env("FOLDER", &folder);
        let mut holder =
            unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start unshare");
        let mut said = [0; 6];
        let read = holder.stdout.as_mut().expect("its output").read_exact(&mut said);
        read.expect("the file system is mounted");
        Apart { holder, folder }
    }

    /// A command, inside.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            inside.current_dir(directory);
        }
        inside.stdin(Stdio::null());
        inside
    }

    fn mount(&self, program: &str, words: &[&str]) {
        let mut command = Command::new(program);
        command.args(words).arg(&self.folder);
        let done = self.inside(&command).status().expect("start nsenter");
        assert!(done.success(), "{program} {words:?}");
    }

    /// Takes the file system away, however busy it is.
    ///
    /// # Panics
    /// If that fails.
    pub fn take_away(&self) {
        self.mount("umount", &["-l"]);
    }

    /// Mounts it again, with all that was on it.
    ///
    /// # Panics
    /// If that fails.
    pub fn bring_back(&self) {
        let disk = self.disk().display().to_string();
        self.mount("mount", &["--bind", &disk]);
    }

    /// Lets it take so many KiB beside what is on it by now, and nothing after them. Where there is to be none, a
    /// file takes what is left: what others write meanwhile is no matter.
    ///
    /// # Panics
    /// If that fails.
    pub fn has_room(&self, kib: u32) {
        let text = "set -eu\nrm -f \"$1/filler\"\nused=$(df --output=used -k \"$1\" | tail -n 1)\n\
            mount -o remount,size=$((used + ($2 > 0 ? $2 : 4096)))k \"$1\"\n\
            [ $2 -gt 0 ] || ! head -c 1G /dev/zero 2>/dev/null >\"$1/filler\"";
        let mut command = Command::new("bash");
        command.args(["-c", text, "bash"]).arg(self.disk()).arg(kib.to_string());
        let done = self.inside(&command).status().expect("start nsenter");
        assert!(done.success(), "room for {kib} KiB");
    }

    fn disk(&self) -> PathBuf {
        self.folder.with_file_name("disk")
    }

    /// Lets nobody write into it, or everybody again.
    ///
    /// # Panics
    /// If that fails.
    pub fn may_be_written(&self, may: bool) {
        self.mount("mount", &["-o", if may { "remount,rw,bind" } else { "remount,ro,bind" }]);
    }

    /// What lies in the empty directory where nothing is mounted.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn below(&self) -> usize {
        fs::read_dir(&self.folder).expect("the mount point").count()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
