//! Sees every key that a ring ever holds, and keeps nothing of them but digests.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openssl_sys::{SHA256_CTX, SHA256_Init, SHA256_Update};
use testbed::memory::Wanted;
use testbed::wait;
use tktrot::clock::{BootClock, Clock, Time};
use tktrot::process::ProcessId;
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{Capacity, MIN_CAPACITY};
use tktrot::ring::lock::Holder;

use super::Result;

/// The first round constants of SHA-256 (FIPS 180-4, 4.2.2): some implementations keep each word of
/// a block on the stack with its constant added.
const ROUNDS: [u32; 8] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
];

/// Whoever may open the ring can read its keys, so no product code tells them: root can, and this
/// test is root.
pub struct Witness {
    ring: Ring,
    /// By name, when each key ends.
    ends: BTreeMap<[u8; 16], Time>,
    /// Whole keys in all forms.
    pub keys: Wanted,
    /// Every 8 aligned bytes of these.
    pub pieces: Wanted,
    /// What the first block of an HMAC leaves in SHA-256: in a MAC context that is kept for the
    /// next ticket. It cannot be turned back into the key, and does as well for a MAC.
    pub states: Wanted,
}

impl Witness {
    /// Opens the ring that a server has made.
    pub fn new(dir: &std::path::Path) -> Result<Witness> {
        let place = Place { dir: dir.to_owned(), file: "nginx.ring".to_owned(), dir_mode: 0o700 };
        let capacity = Capacity::new(MIN_CAPACITY).ok_or("no capacity")?;
        let ring = place.open(capacity).map_err(|refused| refused.to_string())?;
        let (keys, pieces, states) = (Wanted::new(), Wanted::new(), Wanted::new());
        Ok(Witness { ring, ends: BTreeMap::new(), keys, pieces, states })
    }

    /// Notes the keys that are in the ring now, and returns the names of the living.
    pub fn look(&mut self) -> Result<Vec<String>> {
        let patience = Duration::from_secs(2);
        let writer = self.ring.write_within(patience).map_err(|error| format!("{error:?}"))?;
        let entries = writer.entries();
        drop(writer);
        let mut key = Key::blank();
        for entry in &entries {
            if self.ring.find(&entry.name, &mut key) {
                let label = key.name.to_string();
                let (aes, hmac) = (key.secrets.aes.expose(), key.secrets.hmac.expose());
                if self.ends.insert(key.name.0, key.times.decrypt_until).is_none() {
                    self.want(aes, &format!("{label} AES"));
                    self.want(&swapped(aes), &format!("{label} AES schedule"));
                    self.want(hmac, &format!("{label} HMAC"));
                    for (pad, name) in [(0x36, "inner"), (0x5c, "outer")] {
                        let padded = hmac.map(|byte| byte ^ pad);
                        let words = swapped(&padded);
                        self.states
                            .add(&state_after(&padded, pad), &format!("{label} HMAC {name}"));
                        self.want(&padded, &format!("{label} HMAC {name}"));
                        self.want(&words, &format!("{label} HMAC {name} words"));
                        self.want(&with_rounds(&words), &format!("{label} HMAC {name} rounds"));
                    }
                }
            }
        }
        Ok(entries.iter().map(|entry| entry.name.to_string()).collect())
    }

    fn want(&mut self, secret: &[u8; 32], label: &str) {
        self.keys.add(secret, label);
        for (number, piece) in secret.chunks_exact(8).enumerate() {
            self.pieces.add(piece, &format!("{label} [{number}]"));
        }
    }

    /// The process that sees to the ring.
    pub fn leader(&self) -> ProcessId {
        ProcessId(self.ring.header().leader.load(Ordering::Relaxed))
    }

    /// Who has the ring's writer lock.
    pub fn writer(&self) -> Holder {
        self.ring.holder()
    }

    /// How many keys were seen.
    pub fn seen(&self) -> usize {
        self.ends.len()
    }

    /// Waits until every key seen so far should have been gone for so long, calling `meanwhile`;
    /// keeps looking, but waits for none of those seen on the way. Returns the names of the dead.
    pub fn await_end(
        &mut self,
        late: Duration,
        mut meanwhile: impl FnMut(),
    ) -> Result<Vec<String>> {
        self.look()?;
        let names: Vec<_> = self.ends.keys().copied().collect();
        let last = self.ends.values().copied().max().ok_or("no key was seen")?;
        let end = last + late;
        wait::until(Duration::from_secs(60), "the end of the keys", || {
            meanwhile();
            self.look().ok()?;
            (BootClock.now() > end).then_some(())
        })?;
        Ok(names.into_iter().map(|name| tktrot::secret::KeyName(name).to_string()).collect())
    }
}

/// Each 32-bit word with its bytes reversed, as an AES key schedule or a SHA-256 block may hold it.
fn swapped(bytes: &[u8; 32]) -> [u8; 32] {
    let mut out = *bytes;
    out.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    out
}

/// The state of SHA-256 after the block that the padded key of an HMAC makes: 64 bytes, of which a
/// key of 32 fills half (RFC 2104 §2). As it lies in memory.
fn state_after(padded: &[u8; 32], pad: u8) -> [u8; 32] {
    let block = [*padded, [pad; 32]].concat();
    let mut context = MaybeUninit::<SHA256_CTX>::zeroed();
    // SAFETY: the first call initialises the context, for which zeroes are valid.
    let context = unsafe {
        assert_eq!(SHA256_Init(context.as_mut_ptr()), 1);
        assert_eq!(SHA256_Update(context.as_mut_ptr(), block.as_ptr().cast(), block.len()), 1);
        context.assume_init()
    };
    let mut state = [0; 32];
    for (bytes, word) in state.chunks_exact_mut(4).zip(context.h) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    state
}

fn with_rounds(words: &[u8; 32]) -> [u8; 32] {
    let mut out = *words;
    for (word, constant) in out.chunks_exact_mut(4).zip(ROUNDS) {
        let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        word.copy_from_slice(&value.wrapping_add(constant).to_le_bytes());
    }
    out
}
