//! What it costs to find a key by its name, by the number of keys in the ring.

use std::hint::black_box;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::ring::Ring;
use tktrot::ring::layout::Geometry;
use tktrot::ring::reader::Key;
use tktrot::schedule::KeyTimes;
use tktrot::secret::{KeyName, KeySecrets};

use crate::Result;
use crate::clock::ThreadTime;
use crate::ratios::Series;

/// Numbers of keys; the others are compared to the first.
pub const KEYS: [u32; 3] = [3, 5000, 16384];
const LOOK_UPS: usize = 2000;
const FEW: usize = 16;

/// The names that are looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A few that are there, again and again: a server's tickets come with the newest keys' names.
    FewKnown,
    /// All that are there, in turn: no cache holds what it needs.
    AllKnown,
    /// None is there: anybody can send such.
    Unknown,
}

impl Names {
    /// All.
    pub const ALL: [Names; 3] = [Names::FewKnown, Names::AllKnown, Names::Unknown];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Names::FewKnown => "a few known names",
            Names::AllKnown => "all known names in turn",
            Names::Unknown => "unknown names",
        }
    }
}

/// A ring and the names in it.
struct Filled {
    ring: Ring,
    known: Vec<KeyName>,
}

/// Nanoseconds of a look-up by names and number of keys, one value per round.
pub type Results = Vec<(Names, Vec<Series>)>;

/// Measures in alternation.
pub fn measure(rounds: usize) -> Result<Results> {
    let mut dice = Dice(0x7469_636b_6574_7321);
    let rings = KEYS.iter().map(|&keys| fill(keys, &mut dice)).collect::<Result<Vec<_>>>()?;
    let unknown: Vec<_> = (0..LOOK_UPS).map(|_| dice.name()).collect();
    let mut results: Results = Names::ALL.map(|names| (names, vec![Series::default(); 3])).into();
    for round in 0..rounds {
        for (names, by_keys) in &mut results {
            for turn in 0..rings.len() {
                let place = (round + turn) % rings.len();
                let Filled { ring, known } = &rings[place];
                let nanos = match names {
                    Names::FewKnown => time(ring, &known[..FEW.min(known.len())], true),
                    Names::AllKnown => time(ring, known, true),
                    Names::Unknown => time(ring, &unknown, false),
                };
                by_keys[place].0.push(nanos);
            }
        }
    }
    Ok(results)
}

/// Nanoseconds of one look-up.
fn time(ring: &Ring, names: &[KeyName], there: bool) -> f64 {
    // All names of a large ring, or a small ring's again and again.
    let look_ups = LOOK_UPS.max(names.len());
    let mut time = ThreadTime::default();
    let found = time.measure(|| {
        let names = names.iter().cycle().take(look_ups);
        let mut key = Key::blank();
        names.filter(|name| ring.find(black_box(name), black_box(&mut key))).count()
    });
    assert_eq!(found, if there { look_ups } else { 0 });
    time.nanos as f64 / look_ups as f64
}

/// A ring with so many keys of random names and no secrets worth the name.
fn fill(keys: u32, dice: &mut Dice) -> Result<Filled> {
    let geometry = Geometry::new(keys.max(64)).ok_or("no such ring")?;
    let ring = Ring::private(geometry)?;
    let writer = ring.write_within(Duration::from_secs(2)).map_err(|busy| format!("{busy:?}"))?;
    let mut known = Vec::new();
    for _ in 0..keys {
        let mut secrets = KeySecrets::zeroed();
        dice.fill(secrets.aes.expose_mut());
        dice.fill(secrets.hmac.expose_mut());
        let times = KeyTimes {
            encrypt_from: Time(1),
            encrypt_until: Time(2),
            decrypt_until: Time(u64::MAX / 2),
        };
        let key = Key { name: dice.name(), secrets, times, node: 1, plain: false, aes_128: false };
        writer.publish(&key).map_err(|refused| format!("{refused:?}"))?;
        known.push(key.name);
    }
    drop(writer);
    // Slots are handed out in order, tickets come in none: a random order takes the memory's.
    known.sort_by_key(|name| name.0);
    Ok(Filled { ring, known })
}

/// splitmix64: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
    }

    fn name(&mut self) -> KeyName {
        let mut name = [0; 16];
        self.fill(&mut name);
        KeyName(name)
    }
}
