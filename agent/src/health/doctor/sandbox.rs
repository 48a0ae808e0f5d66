//! Whether the server of a recovery can run in a sandbox.

use drctl_engines::pg::physical::room_for_sockets;
use drctl_engines::sandbox::{NoSandbox, Sandbox, look_for_sandbox};

use crate::host::Checks;

/// Whether a restored cluster's server can be kept from the keys, the network and the source.
pub(super) async fn look(found: &mut Checks) {
    // Where the server's socket lies, and who could put another one there.
    let place = room_for_sockets(true).map_err(Into::into);
    if found.take("temporary_directory", place).is_none() {
        return;
    }
    match look_for_sandbox().await {
        Ok(Sandbox { lacks: None, .. }) => {
            found.good("sandbox", "the server of a recovery runs in a sandbox of its own");
        }
        Ok(Sandbox { lacks: Some(lacks), .. }) => {
            let hint = "the sandbox works all the same; where /proc is not masked it has that too";
            found.warn(
                "sandbox",
                format!("the server of a recovery runs in a sandbox; {lacks}"),
                hint,
            );
        }
        Err(NoSandbox { missing, hint }) => {
            let text =
                format!("no recovery can run here, except with --without-sandbox: {missing}");
            found.warn("sandbox", text, hint);
        }
    }
}
