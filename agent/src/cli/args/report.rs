use clap::{Args, ValueEnum};

/// What `report` is told.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Only these sources.
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Of which time: the last 24h, 7d or 90d; or 2026-11, 2026-Q4 or 2026, in UTC.
    #[arg(long, value_name = "PERIOD", default_value = "7d")]
    pub period: String,
    /// How it is written to standard output. A page is one file that needs no other one.
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub format: ReportFormat,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A few lines for each source.
    Text,
    /// A page with plots, for a browser or paper.
    Html,
    /// A page in Markdown.
    Md,
    /// One JSON object, as with `--json`.
    Json,
}
