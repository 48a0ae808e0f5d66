//! Whether the server of a recovery can run in a box.

use drctl_engines::boxed::{Boxes, NoBox, look_for_box};
use drctl_engines::pg::physical::room_for_sockets;

use crate::host::Checks;

/// Whether a restored cluster's server can be kept from the keys, the network and the source.
pub(super) async fn look(found: &mut Checks) {
    // Where the server's socket lies, and who could put another one there.
    let place = room_for_sockets(true).map_err(Into::into);
    if found.take("temporary_directory", place).is_none() {
        return;
    }
    match look_for_box().await {
        Ok(Boxes { lacks: None, .. }) => {
            found.good("box", "the server of a recovery runs in a box of its own");
        }
        Ok(Boxes { lacks: Some(lacks), .. }) => {
            let hint = "the box works all the same; where /proc is not masked it has that too";
            found.warn("box", format!("the server of a recovery runs in a box; {lacks}"), hint);
        }
        Err(NoBox { missing, hint }) => {
            let text = format!("no recovery can run here, except with --without-box: {missing}");
            found.warn("box", text, hint);
        }
    }
}
