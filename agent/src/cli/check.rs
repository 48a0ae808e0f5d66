use anyhow::Result;

use super::args::VerifyArgs;
use super::heard::heard_within;
use super::progress::Progress;
use super::screen::Screen;
use crate::health::{Read, Wanted, look, on_record};
use crate::host::{AgentError, Exit, Meter, Setup, Stop};
use crate::jobs::meant;

/// `drctl verify`.
pub(super) async fn verify(
    screen: Screen,
    setup: &Setup,
    args: &VerifyArgs,
    stop: &Stop,
) -> Result<Exit> {
    // One that reads data may wait for longer.
    let patience = if args.data { setup.patience_with_data() } else { setup.patience() };
    let sources = tokio::select! {
        meant = heard_within(setup, patience, meant(setup, args.what.as_deref())) => meant?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let wanted = Wanted {
        what: args.what.as_deref(),
        identity: args.identity.as_deref(),
        read: if args.data { Read::All } else { Read::Nothing },
    };
    let meter = Meter::default();
    let looking = async {
        let _progress = Progress::show(screen, &meter);
        heard_within(setup, patience, look(setup, &wanted, &meter, stop)).await
    };
    let found = on_record(setup, sources, Box::pin(looking)).await?;
    found.print(screen, args);
    Ok(found.exit())
}
