//! Who is at the other end of a socket, as the kernel tells, and what he may ask.

use std::ffi::CString;

use drctl_engines::account;
use drctl_model::AuditActor;
use drctl_policies::AgentSettings;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixStream;

use super::{Refusal, Request};

/// Who may ask for what, beside root and our own account.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct Rights {
    /// The group whose members may ask for ordinary work.
    pub(in crate::daemon) group: Option<String>,
    /// The group whose members may ask for all but to hand over log.
    pub(in crate::daemon) admins: Option<String>,
    /// The account that may hand over log.
    pub(in crate::daemon) push_user: Option<String>,
}

impl Rights {
    /// Those that the configuration gives.
    pub(in crate::daemon) fn of(settings: &AgentSettings) -> Self {
        Rights {
            group: settings.socket_group.clone(),
            admins: settings.admin_group.clone(),
            push_user: settings.push_user.clone(),
        }
    }
}

/// The account at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct Peer {
    uid: u32,
    gid: u32,
    /// Its process, where the kernel tells.
    pid: Option<i32>,
    /// What the account is called, where it has a name.
    name: Option<String>,
}

impl Peer {
    /// Whoever made the connection.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let found = stream.peer_cred()?;
        let user = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
        Ok(Peer {
            uid: found.uid(),
            gid: found.gid(),
            pid: found.pid(),
            name: user.map(|user| user.name),
        })
    }

    /// For people, and for the log.
    pub(in crate::daemon) fn words(&self) -> String {
        let account = self.name.clone().unwrap_or_else(|| format!("uid {}", self.uid));
        match self.pid {
            Some(pid) => format!("{account} (process {pid})"),
            None => account,
        }
    }

    /// As the audit log has it.
    pub(super) fn actor(&self) -> AuditActor {
        let account = self.name.clone().unwrap_or_else(|| account(self.uid));
        AuditActor { uid: self.uid, account, process: self.pid, socket: true }
    }

    /// Whether it is root or our own account.
    pub(super) fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }

    /// Whether it is this account.
    pub(super) fn is(&self, uid: Option<u32>) -> bool {
        uid == Some(self.uid)
    }

    /// Whether it may ask this.
    ///
    /// # Errors
    /// A [`Refusal`] that says why not.
    pub(super) fn may(&self, request: &Request, rights: &Rights) -> Result<(), Refusal> {
        let pushes = matches!(request, Request::Push(_)) && self.may_push(rights);
        if self.is_trusted() || pushes {
            return Ok(());
        }
        let is_in = |group: &&str| self.is_in(group);
        let is_admin = rights.admins.as_deref().filter(is_in).is_some();
        if is_admin && !matches!(request, Request::Push(_)) {
            return Ok(());
        }
        let Some(group) = rights.group.as_deref().filter(is_in) else {
            let text = format!("{} may not speak with this agent", self.words());
            return Err(Refusal::new("denied", text));
        };
        if request.is_for_group() {
            return Ok(());
        }
        let admins = rights.admins.as_deref();
        let admins = admins.map_or(String::new(), |group| format!(", and members of {group},"));
        let text = format!(
            "members of {group} may not ask for this: drctl's account and root{admins} may"
        );
        Err(Refusal::new("denied", text))
    }

    /// Whether it is the account that may hand over log.
    pub(super) fn may_push(&self, rights: &Rights) -> bool {
        let name = rights.push_user.as_deref();
        let user = name.and_then(|name| User::from_name(name).ok().flatten());
        user.is_some_and(|user| user.uid.as_raw() == self.uid)
    }

    /// Whether the account is a member of a group, as the host knows it now.
    fn is_in(&self, group: &str) -> bool {
        let Ok(Some(group)) = Group::from_name(group) else { return false };
        if self.gid == group.gid.as_raw() {
            return true;
        }
        let name = self.name.as_deref().and_then(|name| CString::new(name).ok());
        let groups = name.and_then(|name| getgrouplist(&name, Gid::from_raw(self.gid)).ok());
        groups.is_some_and(|groups| groups.contains(&group.gid))
    }
}
