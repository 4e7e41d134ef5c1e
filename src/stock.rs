//! Random bytes for keys, drawn before the writer lock is taken. A generator may take long,
//! or for ever: OpenSSL's has locks, and in the child of a process whose other threads were
//! at it they may be held by nobody. Who waits there must not hold up all who share the ring.

use std::cell::{Cell, RefCell};

use crate::rotate::{Generator, NotRandom};
use crate::schedule::LONGEST_LINE;
use crate::secret::{Secret, wipe_stack};

/// A key needs a name and two secrets, each drawn on its own.
const PARTS: [usize; 3] = [16, 32, 32];
const OF_A_KEY: usize = PARTS[0] + PARTS[1] + PARTS[2];
/// One act on a ring makes no more: a whole line, and one at an operator's wish.
const KEYS: usize = LONGEST_LINE + 1;

/// What was drawn; or why nothing was.
pub struct Stock {
    bytes: RefCell<Secret<{ KEYS * OF_A_KEY }>>,
    used: Cell<usize>,
    drawn: Result<(), NotRandom>,
}

impl Stock {
    /// Nothing.
    pub fn empty() -> Stock {
        let (bytes, used) = (RefCell::new(Secret::zeroed()), Cell::new(0));
        Stock { bytes, used, drawn: Err(NotRandom::NotNow) }
    }

    /// Draws enough for some keys.
    #[cold]
    pub fn draw(generator: &dyn Generator) -> Stock {
        let mut bytes = Secret::zeroed();
        let mut keys = bytes.expose_mut().chunks_exact_mut(OF_A_KEY);
        let drawn = keys.try_for_each(|mut key| {
            PARTS.into_iter().try_for_each(|length| {
                let part;
                (part, key) = std::mem::take(&mut key).split_at_mut(length);
                generator.fill(part)
            })
        });
        // The generator may keep the last block that it gave (OpenSSL's does,
        // where AES is in portable code): let that be one which nobody uses.
        let _ = generator.fill(Secret::<64>::zeroed().expose_mut());
        wipe_stack();
        Stock { bytes: RefCell::new(bytes), used: Cell::new(0), drawn }
    }

    /// Hands out what nobody else gets; what is handed out is wiped here.
    ///
    /// # Errors
    ///
    /// That of the generator; or [`NotRandom::NotNow`] if all was handed out.
    pub fn take(&self, into: &mut [u8]) -> Result<(), NotRandom> {
        self.drawn?;
        let mut bytes = self.bytes.borrow_mut();
        let used = self.used.get();
        let part = bytes.expose_mut().get_mut(used..used + into.len()).ok_or(NotRandom::NotNow)?;
        into.copy_from_slice(part);
        part.fill(0);
        self.used.set(used + into.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    struct Counting(AtomicU8);

    impl Generator for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
            Ok(())
        }
    }

    struct Broken;

    impl Generator for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), NotRandom> {
            Err(NotRandom::Failed)
        }
    }

    #[test]
    fn nothing_is_handed_out_twice_and_no_more_than_there_is() {
        let stock = Stock::draw(&Counting(AtomicU8::new(0)));
        let mut all = Vec::new();
        for _ in 0..KEYS {
            for length in PARTS {
                let mut part = vec![0; length];
                stock.take(&mut part).unwrap();
                all.extend(part);
            }
        }
        let wanted: Vec<u8> = (0..=255).cycle().take(KEYS * OF_A_KEY).collect();
        assert_eq!(all, wanted);
        assert_eq!(stock.take(&mut [0]), Err(NotRandom::NotNow));
        assert!(stock.bytes.borrow().expose().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_failure_is_told_to_who_wants_a_key() {
        assert_eq!(Stock::draw(&Broken).take(&mut [0; 16]), Err(NotRandom::Failed));
    }
}
