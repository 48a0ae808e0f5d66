use clap::Args;

/// What `watch` is told.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A host that must have sent beats; may be repeated. Default: every host that ever has.
    #[arg(long, value_name = "HOST")]
    pub expect: Vec<String>,
    /// Leave out a host, such as one that is retired; may be repeated.
    #[arg(long, value_name = "HOST")]
    pub ignore: Vec<String>,
    /// Call a host late when its newest beat is older than this. Default: when the next beat has not
    /// come after twice the time that it announced.
    #[arg(long, value_name = "SPAN")]
    pub max_age: Option<String>,
}
