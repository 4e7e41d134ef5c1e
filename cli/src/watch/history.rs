//! What happened per second, as far back as a screen is wide.

use std::collections::VecDeque;

use crate::status::rates::Rates;

/// More columns than terminals have.
const KEPT: usize = 512;

/// The rates of the last looks, the newest last.
#[derive(Default)]
pub struct History(VecDeque<Rates>);

impl History {
    /// Adds the newest.
    pub fn add(&mut self, rates: Rates) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(rates);
    }

    /// One of the rates, the newest at the right end of `width` columns; in tenths.
    pub fn bars(&self, rate: fn(&Rates) -> f64, width: usize) -> Vec<u64> {
        let shown = self.0.iter().skip(self.0.len().saturating_sub(width));
        let bars: Vec<_> = shown.map(|rates| (rate(rates) * 10.0).round() as u64).collect();
        let mut all = vec![0; width.saturating_sub(bars.len())];
        all.extend(bars);
        all
    }

    /// The newest of one of the rates.
    pub fn now(&self, rate: fn(&Rates) -> f64) -> f64 {
        self.0.back().map_or(0.0, rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_at_the_right_and_the_oldest_falls_off() {
        let mut history = History::default();
        let issued: fn(&Rates) -> f64 = |rates| rates.issued;
        assert_eq!((history.bars(issued, 3), history.now(issued)), (vec![0, 0, 0], 0.0));
        for number in 1..=KEPT + 2 {
            history.add(Rates { issued: number as f64, ..Rates::default() });
        }
        let last = (KEPT + 2) as u64 * 10;
        assert_eq!(history.bars(issued, 2), [last - 10, last]);
        assert_eq!(history.bars(issued, KEPT + 1)[..2], [0, 30]);
        assert_eq!(history.now(issued), (KEPT + 2) as f64);
    }
}
