//! IVs: public once they are used, but never the same twice. A thread draws
//! some dozens at once from the TLS library's generator, because a draw costs
//! more than what it brings; each is wiped when it is taken.

use std::sync::atomic::{AtomicU64, Ordering};

use super::algorithms::Algorithms;
use super::api::TlsApi;
use crate::clock::Time;
use crate::log::OnceOnly;
use crate::thread::{self, Iv, Pool};
use crate::{error, notice};

/// One of a pool; `None` if `draw` fails, or gives what no sound generator gives.
#[inline(always)]
fn take_from(pool: &Pool, generator: usize, draw: impl FnOnce(&mut [u8]) -> bool) -> Option<Iv> {
    pool.take(generator, |ivs| draw(ivs.as_flattened_mut()) && are_sound(ivs))
}

/// What no sound generator gives: a constant, or the same again. Compared are
/// halves, so that a chance hit is as unlikely as with one IV.
fn are_sound(ivs: &[Iv]) -> bool {
    let same = |pair: &[Iv]| pair[0][..8] == pair[1][..8];
    ivs.iter().all(|iv| iv[..8] != iv[8..]) && !ivs.windows(2).any(same) && is_news(&ivs[0])
}

/// False if the last draw of this process, for any library, began as this one.
fn is_news(first: &Iv) -> bool {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (half, _) = first.split_first_chunk::<8>().expect("16 bytes");
    let half = u64::from_ne_bytes(*half);
    LAST.swap(half, Ordering::Relaxed) != half
}

/// Whether the last draw of this process failed.
static FAILING: OnceOnly = OnceOnly::new();

/// A fresh IV of the generator there; `None` if it fails, which is told once.
pub fn fresh(api: &TlsApi, algorithms: &Algorithms) -> Option<Iv> {
    let mut drew = false;
    let iv = take_or_draw((api, algorithms), &mut drew);
    if drew {
        tell(iv.is_some());
    }
    iv
}

/// What is drawn in advance is drawn twice where a process, or the whole machine, is
/// copied while it runs (criu, a snapshot of a virtual machine): of the same IV, two
/// copies make two, each of the nanosecond in which it seals. As unpredictable as
/// before.
pub fn of_moment(mut iv: Iv, now: Time) -> Iv {
    let (first, _) = iv.split_first_chunk_mut::<8>().expect("16 bytes");
    *first = (u64::from_le_bytes(*first) ^ now.0).to_le_bytes();
    iv
}

fn take_or_draw((api, algorithms): (&TlsApi, &Algorithms), drew: &mut bool) -> Option<Iv> {
    let mut draw = |bytes: &mut [u8]| {
        *drew = true;
        algorithms.draw(api, bytes)
    };
    let generator = algorithms.generator(api);
    if let Some(seat) = thread::mine() {
        // SAFETY: this thread's seat, and the generator does not come back here.
        let iv = take_from(unsafe { seat.pool() }, generator, &mut draw);
        // A signal handler that forked just now left zeroes in the child.
        if let Some(iv) = iv.filter(|iv| seat.is_taken() && *iv != [0; 16]) {
            return Some(iv);
        }
    }
    // A host's own generator may not give so much at once (getentropy(3) gives 256 bytes).
    let mut iv = [0; 16];
    (draw(&mut iv) && are_sound(&[iv])).then_some(iv)
}

/// Once when draws begin to fail, once when they work again.
#[cold]
fn tell(works: bool) {
    if works && FAILING.reset() {
        notice!("the random number generator works again; handshakes bring tickets");
    } else if !works && FAILING.first() {
        error!(
            "the TLS library's random number generator (RAND_bytes) fails; handshakes go on \
             without tickets in this process until it works again"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::thread::IVS;

    #[test]
    fn two_copies_of_a_pool_make_different_ivs_of_it() {
        let drawn: Iv = std::array::from_fn(|at| at as u8);
        let at = |now| of_moment(drawn, Time(now));
        assert_ne!(at(1 << 40), at((1 << 40) + 1));
        assert_eq!(at(0x0102), [2, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    }

    /// Counts up from `start`, with halves that differ.
    fn count(bytes: &mut [u8], start: u64) -> bool {
        for (number, iv) in bytes.chunks_exact_mut(16).enumerate() {
            let number = start + number as u64;
            iv[..8].copy_from_slice(&number.to_be_bytes());
            iv[8..].copy_from_slice(&(!number).to_be_bytes());
        }
        true
    }

    #[test]
    fn none_comes_twice_and_one_draw_brings_many() {
        let pool = Pool::empty();
        let mut draws = 0;
        let mut seen = HashSet::new();
        for _ in 0..3 * IVS {
            let iv = take_from(&pool, 1, |bytes| {
                draws += 1;
                count(bytes, 1000 * draws)
            });
            assert!(seen.insert(iv.unwrap()));
        }
        assert_eq!(draws, 3);
        assert!(pool.is_wiped());
    }

    #[test]
    fn another_librarys_are_not_taken() {
        let pool = Pool::empty();
        let mine = take_from(&pool, 1, |bytes| count(bytes, 5000)).unwrap();
        let other = take_from(&pool, 2, |bytes| count(bytes, 6000)).unwrap();
        assert_eq!(&mine[..8], &(5000 + IVS as u64 - 1).to_be_bytes());
        assert_eq!(&other[..8], &(6000 + IVS as u64 - 1).to_be_bytes());
    }

    #[test]
    fn what_a_broken_generator_gives_is_refused_and_wiped() {
        let pool = Pool::empty();
        let fill = |value| {
            move |bytes: &mut [u8]| {
                bytes.fill(value);
                true
            }
        };
        let same_again = |bytes: &mut [u8]| {
            bytes.chunks_exact_mut(16).for_each(|iv| {
                count(iv, 7000);
            });
            true
        };
        assert!(take_from(&pool, 1, |_| false).is_none());
        assert!(take_from(&pool, 1, fill(0)).is_none());
        assert!(take_from(&pool, 1, fill(0x5a)).is_none());
        assert!(take_from(&pool, 1, same_again).is_none());
        assert!(pool.is_wiped());
        assert!(take_from(&pool, 1, |bytes| count(bytes, 8000)).is_some());
        // SAFETY: nobody else has it.
        unsafe { pool.wipe() };
        assert!(pool.is_wiped());
    }
}
