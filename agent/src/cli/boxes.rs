use anyhow::Result;
use drctl_engines::boxed::{Boxes, look_for_box};

use super::args::RestoreArgs;
use crate::host::AgentError;

/// How a box is made for the server of a recovery, and what is to be known of it.
///
/// # Errors
/// [`AgentError::NoBox`] where none can be had, unless it is wished so.
pub(super) async fn boxes(args: &RestoreArgs) -> Result<(Option<Boxes>, Option<String>)> {
    if args.without_box {
        let note = "WITHOUT A BOX, as you wish: the restored server and whatever the source's data \
                    make it run can read the keys, reach the network, and read and write all that \
                    this account can";
        tracing::warn!("{note}");
        return Ok((None, Some(note.to_owned())));
    }
    let boxes = look_for_box().await.map_err(|no| AgentError::NoBox(no.missing, no.hint))?;
    let lacks = boxes.lacks.as_ref().map(|lacks| format!("the restored server's box: {lacks}"));
    Ok((Some(boxes), lacks))
}
