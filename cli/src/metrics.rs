//! Metrics in Prometheus' text format 0.0.4, whatever they are of.

use anyhow::Result;
use prometheus::core::Collector;
use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};

/// A new gauge of the registry, whose name begins with `tktrot_`.
pub fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    registered(registry, GaugeVec::new(Opts::new(format!("tktrot_{name}"), help), labels)?)
}

/// A metric that the registry has from now on.
pub fn registered<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// 1 if it is so.
pub fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// All metrics of the registry.
pub fn encoded(registry: &Registry) -> Result<String> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8(text)?)
}
