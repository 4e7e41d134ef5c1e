//! Pauses between attempts: longer and longer, and never the same for two hosts, which would else
//! dial each other at the same moments for ever.

use std::time::Duration;

/// The pauses of one address.
pub struct Pauses {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Pauses {
    pub fn new((least, most): (Duration, Duration)) -> Self {
        Pauses { least, most, next: least }
    }

    /// It worked: the next pause is a short one.
    pub fn reset(&mut self) {
        self.next = self.least;
    }

    /// The next one: between three quarters of what it would be and that.
    pub fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (2 * pause).min(self.most);
        let mut random = [0; 1];
        // Without randomness it is the whole pause.
        let _ = openssl::rand::rand_bytes(&mut random);
        pause - pause / 4 * u32::from(random[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_to_the_longest_and_start_again() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new((ms(500), ms(5000)));
        for whole in [500, 1000, 2000, 4000, 5000, 5000] {
            let pause = pauses.next();
            assert!(pause >= ms(whole * 3 / 4) && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        pauses.reset();
        assert!(pauses.next() <= ms(500));
        let several: std::collections::BTreeSet<_> = (0..20).map(|_| pauses.next()).collect();
        assert!(several.len() > 5, "they are random");
    }
}
