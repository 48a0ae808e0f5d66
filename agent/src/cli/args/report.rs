use clap::Args;

/// What `report` is told.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only these sources.
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// What was done in the last of this time, such as 24h, 7d or 90d.
    #[arg(long, value_name = "SPAN", default_value = "7d")]
    pub period: String,
}
