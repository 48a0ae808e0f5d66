//! Figures as Prometheus reads them. A metric of which nothing is known is absent, which is another
//! thing than zero.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What one series is of: names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A metric with its series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Metric {
    /// Of a counter without `_total`, which the encoder adds.
    pub(super) name: &'static str,
    /// What it is, in words and with its unit.
    pub(super) help: &'static str,
    /// Whether it only grows while the agent runs.
    pub(super) counts: bool,
    pub(super) series: Vec<(Labels, f64)>,
}

/// The metrics of one scrape.
#[derive(Debug)]
struct Scrape(Vec<Metric>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for metric in self.0.iter().filter(|metric| !metric.series.is_empty()) {
            let kind = if metric.counts { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (labels, value) in &metric.series {
                let labels = labels.as_slice();
                let mut one = family.encode_family(&labels)?;
                match metric.counts {
                    true => one.encode_counter::<NoLabelSet, _, f64>(value, None)?,
                    false => one.encode_gauge(value)?,
                }
            }
        }
        Ok(())
    }
}

/// Metrics as OpenMetrics text, version 1.0.0.
pub(super) fn text(metrics: &[Metric]) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(metrics.to_vec())));
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// A figure that goes up and down.
pub(super) fn gauge(name: &'static str, help: &'static str, series: Vec<(Labels, f64)>) -> Metric {
    Metric { name, help, counts: false, series }
}

/// 1 for yes.
pub(super) fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Seconds since 1970.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// A number of things.
pub(super) fn count(n: usize) -> f64 {
    wide(u64::try_from(n).unwrap_or(u64::MAX))
}

/// Beyond 2^53 it is rounded, as all of Prometheus' values are.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
pub(super) fn wide(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_absent_and_values_are_escaped() {
        let metric = |name, counts, series| Metric { name, help: "What it is", counts, series };
        let labels = |value: &str| vec![("source", value.to_owned())];
        let told = text(&[
            metric("drctl_a_seconds", false, vec![(labels("a\"\\\nb"), 1.5), (labels("c"), 0.0)]),
            metric("drctl_none", false, Vec::new()),
            metric("drctl_runs", true, vec![(Labels::new(), 3.0)]),
        ]);
        assert_eq!(
            told,
            "# HELP drctl_a_seconds What it is\n# TYPE drctl_a_seconds gauge\n\
             drctl_a_seconds{source=\"a\\\"\\\\\\nb\"} 1.5\ndrctl_a_seconds{source=\"c\"} 0.0\n\
             # HELP drctl_runs What it is\n# TYPE drctl_runs counter\ndrctl_runs_total 3.0\n# EOF\n"
        );
    }
}
