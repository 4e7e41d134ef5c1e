//! Which keys of a ring servers without libtktrot can use, and in which order.

use std::cmp::Reverse;

use anyhow::{Result, ensure};
use tktrot::clock::{BootClock, Clock, Time};
use tktrot::ring::asks::Binds;
use tktrot::ring::key::Key;
use tktrot::ring::view::{User, View};
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;

use super::{Keys, haproxy};

const HOW: &str = "only plain keys can be used by servers without libtktrot, and only a ring has \
                   them none of whose processes binds its tickets: start all its servers with \
                   TKTROT_BIND=none (bind = \"none\" in tktrot.toml). Then no ticket is bound to \
                   where it was issued, and opens also where a client certificate is required \
                   (docs/security.md)";

/// Who binds its tickets, as far as it is told.
fn because_of(view: &View) -> String {
    let binds = |user: &User| !user.is_over && user.binds.is_some_and(Binds::bind);
    let users: Vec<_> = view.users(BootClock.now()).into_iter().filter(binds).collect();
    match &*users {
        [] => String::new(),
        [one] => {
            format!(", because process {} ({}) binds its tickets", one.process.pid(), one.program)
        }
        [one, ..] => format!(
            ", because {} processes bind their tickets, among them {} ({})",
            users.len(),
            one.process.pid(),
            one.program
        ),
    }
}

/// Plain keys, each in a box of its own.
pub struct Selection {
    /// The ring's own, in the order in which they encrypt.
    line: Keys,
    /// Which of those encrypts.
    active: usize,
    /// Those of other hosts and of files, which only decrypt here; the longest-lived first.
    others: Keys,
    /// How many keys servers could not use.
    pub left_out: usize,
}

/// Keys, or what stands for them, as one server is to have them.
pub struct Lineup<T> {
    /// The one that encrypts.
    pub encrypts: T,
    /// Those that encrypt next, in that order.
    pub next: Vec<T>,
    /// Those that only decrypt: the one before first.
    pub former: Vec<T>,
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
        let makes_plain = view.settings().plain;
        ensure!(makes_plain, "its keys are not plain{}; {HOW}", because_of(view));
        ensure!(
            active.plain,
            "the key that encrypts was made before TKTROT_BIND=none: `tktrot rotate` makes one \
             that others can use"
        );
        let (name, node) = (active.name, active.node);
        let mut selection =
            Selection { line: vec![active], active: 0, others: Keys::new(), left_out: 0 };
        for facts in view.keys() {
            let mut key = Box::new(Key::blank());
            let is_there = facts.name != name && view.read(&facts.name, &mut key);
            if !is_there || key.times.state(now) == KeyState::Expired {
                continue;
            }
            match &key {
                key if !key.plain || key.aes_128 => selection.left_out += 1,
                own if own.node == node => selection.line.push(key),
                _ => selection.others.push(key),
            }
        }
        selection.line.sort_by_key(|key| (key.times.encrypt_from, key.times.encrypt_until));
        let active = selection.line.iter().position(|key| key.name == name);
        selection.active = active.unwrap_or_default();
        let is_ahead = |key: &Key| key.times.state(now) == KeyState::Announced;
        selection.others.sort_by_key(|key| (is_ahead(key), Reverse(key.times.decrypt_until)));
        Ok(selection)
    }

    /// The ring's own keys in the order in which they encrypt.
    pub fn line(&self) -> &[Box<Key>] {
        &self.line
    }

    /// Which of those encrypts.
    pub fn active(&self) -> usize {
        self.active
    }

    /// How many keys servers can use.
    pub fn count(&self) -> usize {
        self.line.len() + self.others.len()
    }

    /// Those of other hosts and of files, which only decrypt here.
    pub fn others(&self) -> &[Box<Key>] {
        &self.others
    }

    /// As the ring's own servers have them.
    pub fn lineup(&self) -> Lineup<&Key> {
        self.at(self.active)
    }

    /// As a server has them with which the key of that name encrypts; `None` if there is none.
    pub fn lineup_of(&self, name: &KeyName) -> Option<Lineup<&Key>> {
        self.line.iter().position(|key| key.name == *name).map(|place| self.at(place))
    }

    fn at(&self, place: usize) -> Lineup<&Key> {
        let [line, others] = [&self.line, &self.others]
            .map(|keys| keys.iter().map(|key| &**key).collect::<Vec<_>>());
        Lineup::at(&line, place, &others)
    }
}

impl<T: Copy> Lineup<T> {
    /// Of a line of keys, of which the one in that place encrypts, and others.
    pub fn at(line: &[T], place: usize, others: &[T]) -> Lineup<T> {
        let (before, rest) = line.split_at(place);
        let former = before.iter().rev().chain(others).copied().collect();
        Lineup { encrypts: rest[0], next: rest[1..].to_vec(), former }
    }

    /// The one that encrypts, those after it, those before it.
    pub fn all(&self) -> Vec<T> {
        let others = self.next.iter().chain(&self.former).copied();
        std::iter::once(self.encrypts).chain(others).collect()
    }

    /// A former key, the one that encrypts, the next one, with what stands in for the first and the
    /// last where there is none.
    pub fn for_haproxy(&self, [former, next]: [T; 2]) -> [T; haproxy::LINES] {
        let or = |key: Option<&T>, stand_in| key.copied().unwrap_or(stand_in);
        [or(self.former.first(), former), self.encrypts, or(self.next.first(), next)]
    }
}
