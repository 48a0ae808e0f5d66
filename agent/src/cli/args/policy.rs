use clap::{Args, Subcommand};

/// What `policy` can do.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Show what the policy would keep, month by month, if backups go on as now, and what that costs.
    Simulate(SimulateArgs),
}

/// What `policy simulate` is told.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Only this source.
    pub source: Option<String>,
    /// For how long: 6mo, 2y.
    #[arg(long = "for", value_name = "SPAN", default_value = "1y")]
    pub span: String,
    /// The price of a GB (1,000,000,000 bytes) for a month, in whatever currency.
    #[arg(long, value_name = "PRICE")]
    pub price: Option<String>,
}
