//! Medians and spreads of what was measured in alternation.

/// Values of one quantity, one per round.
#[derive(Clone, Default)]
pub struct Series(pub Vec<f64>);

impl Series {
    /// The middle value.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which `part` of the values are.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = part * (sorted.len().max(1) - 1) as f64;
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        match (sorted.get(low), sorted.get(high)) {
            (Some(low), Some(high)) => low + (high - low) * place.fract(),
            _ => f64::NAN,
        }
    }

    /// Round by round, this by `base`.
    pub fn over(&self, base: &Series) -> Series {
        Series(self.0.iter().zip(&base.0).map(|(value, base)| value / base).collect())
    }
}
