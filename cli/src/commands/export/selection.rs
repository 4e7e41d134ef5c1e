//! Which keys of a ring servers without libtktrot can use, and in which order.

use anyhow::{Result, anyhow, ensure};
use tktrot::clock::Time;
use tktrot::ring::reader::Key;
use tktrot::ring::view::View;
use tktrot::rotate::Generator;
use tktrot::schedule::KeyState;

use crate::generator::OpenSsl;
use crate::keyfile::{Keys, haproxy};

const HOW: &str = "only plain keys can be used by servers without libtktrot: start the ring's \
                   servers with TKTROT_BIND=none. Then no ticket is bound to where it was issued, \
                   and opens also where a client certificate is required (docs/security.md)";

/// Plain keys, each in a box of its own.
pub struct Selection {
    /// The one that encrypts.
    pub active: Box<Key>,
    /// Those that encrypt next, in that order.
    pub next: Keys,
    /// Those that only decrypt, the newest first.
    pub former: Keys,
    /// How many keys others could not use.
    pub left_out: usize,
}

impl Selection {
    /// What there is at a moment.
    ///
    /// # Errors
    ///
    /// The key that encrypts is none for others, or there is none.
    pub fn of(view: &View, now: Time) -> Result<Selection> {
        let mut active = Box::new(Key::blank());
        ensure!(view.encrypting(now, &mut active), "no key encrypts: no server uses this ring");
        let makes_plain = view.header().plain.load(std::sync::atomic::Ordering::Relaxed) != 0;
        ensure!(makes_plain, "its keys are bound to where tickets are issued; {HOW}");
        ensure!(
            active.plain,
            "the key that encrypts was made before TKTROT_BIND=none: `tktrot rotate` makes one \
             that others can use"
        );
        let mut selection =
            Selection { active, next: Keys::new(), former: Keys::new(), left_out: 0 };
        for facts in view.keys() {
            let mut key = Box::new(Key::blank());
            if facts.name != selection.active.name && view.read(&facts.name, &mut key) {
                selection.add(key, now);
            }
        }
        selection.next.sort_by_key(|key| key.times.encrypt_from);
        selection.former.sort_by_key(|key| std::cmp::Reverse(key.times.encrypt_until));
        Ok(selection)
    }

    fn add(&mut self, key: Box<Key>, now: Time) {
        let state = key.times.state(now);
        if state == KeyState::Expired {
            return;
        }
        match state {
            _ if !key.plain || key.aes_128 => self.left_out += 1,
            KeyState::Announced if key.node == self.active.node => self.next.push(key),
            _ => self.former.push(key),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        1 + self.next.len() + self.former.len()
    }

    /// The one that encrypts, those after it, those before it.
    pub fn all(&self) -> Vec<&Key> {
        let others = self.next.iter().chain(&self.former);
        std::iter::once(&self.active).chain(others).map(|key| &**key).collect()
    }

    /// A former key, the active one, the next one. HAProxy demands all three: where there is no
    /// former or no next one, a key stands in that nobody uses.
    ///
    /// # Errors
    ///
    /// The generator fails.
    pub fn for_haproxy(self: &Selection) -> Result<[Box<Key>; haproxy::LINES]> {
        let or_unused = |key: Option<&Box<Key>>| key.map_or_else(unused, |key| Ok(copy(key)));
        let (former, next) = (or_unused(self.former.first())?, or_unused(self.next.first())?);
        Ok([former, copy(&self.active), next])
    }
}

fn copy(key: &Key) -> Box<Key> {
    let mut copy = Box::new(Key::blank());
    copy.name = key.name;
    copy.secrets.aes.expose_mut().copy_from_slice(key.secrets.aes.expose());
    copy.secrets.hmac.expose_mut().copy_from_slice(key.secrets.hmac.expose());
    copy
}

/// A key that nobody uses.
fn unused() -> Result<Box<Key>> {
    let mut key = Box::new(Key::blank());
    let drawn = OpenSsl.fill(&mut key.name.0)
        && OpenSsl.fill(key.secrets.aes.expose_mut())
        && OpenSsl.fill(key.secrets.hmac.expose_mut());
    drawn.then_some(key).ok_or_else(|| anyhow!("the random number generator fails"))
}
