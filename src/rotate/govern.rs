//! A ring that is governed by an agent: what the agent does to it, one act at a
//! time, while servers leave making, retiring and discarding keys to it.
//!
//! What servers still do: erase what is over, and what somebody asks for
//! deliberately (`tkt_rotate`, `tktrot revoke`). An agent that dies in the
//! middle of an act leaves a ring that the next writer repairs, and no key of
//! which lives longer than it was published with.
//!
//! `Keyring` has its second `impl` here, for the way in: what rotates does not know of agents.

use super::{Failure, Keyring};
use crate::clock::{BootClock, Clock, Time};
use crate::config::Config;
use crate::ring::key::Key;
use crate::ring::layout::{Capacity, IMPORTED};
pub use crate::ring::life::LEASE;
use crate::ring::lock::PATIENCE;
use crate::ring::writer::{Entry, NotPublished, Writer};
use crate::schedule::KeyTimes;
use crate::secret::{KeyName, wipe_stack};
use crate::terms::Overruled;

/// The right to steer a ring, for one act: it holds the writer lock. Nothing
/// of its [`Keyring`] that takes the lock may be called meanwhile.
pub struct Governed<'k, C: Clock = BootClock> {
    keyring: &'k Keyring<C>,
    writer: Writer<'k>,
    now: Time,
}

impl<C: Clock> Keyring<C> {
    /// The right to steer the ring, for one act. Renews the lease, and erases
    /// what is over.
    ///
    /// # Errors
    ///
    /// The writer lock is not to be had.
    pub fn govern(&self) -> Result<Governed<'_, C>, Failure> {
        let writer = self.ring().write_within(PATIENCE).map_err(Failure::Lock)?;
        let now = self.now();
        writer.set_lease(now + LEASE);
        // Sets the deadline, too: wherever the agent dies in what follows,
        // somebody comes by no later than when the lease ends.
        self.tend(&writer, now);
        Ok(Governed { keyring: self, writer, now })
    }
}

impl<C: Clock> Governed<'_, C> {
    /// The time of this act: read under the lock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Every key in the ring, whoever made it.
    pub fn entries(&self) -> Vec<Entry> {
        self.writer.entries()
    }

    /// As [`Keyring::configure`], for the agent: what it sets counts as what any
    /// other process does, and what servers leave open is its to say.
    pub fn configure(&self, config: &Config) -> Vec<Overruled> {
        self.keyring.party().configure_agent(&self.writer, config)
    }

    /// Sees to it that the ring may hold so many keys, whatever processes have asked for. The bound
    /// that it had, if that was lower.
    pub fn raise_capacity(&self, capacity: Capacity) -> Option<u32> {
        let before = self.keyring.ring().capacity();
        (before < capacity.0).then(|| {
            self.writer.set_capacity(capacity);
            before
        })
    }

    /// Makes a key of this node's own with these times, which are in order.
    ///
    /// # Errors
    ///
    /// The generator failed, or every slot has a key that is not yet retired.
    pub fn make(&self, times: KeyTimes) -> Result<KeyName, Failure> {
        debug_assert!(times.are_ordered(), "{times:?}");
        let name = self.keyring.make_own(&self.writer, times, self.now)?;
        self.align();
        Ok(name)
    }

    /// Puts a key of another node into the ring. No other key makes room for it.
    ///
    /// # Errors
    ///
    /// Every slot is taken; or it is no key, or its name or a secret of it is
    /// in the ring already.
    pub fn take(&self, key: &Key) -> Result<(), NotPublished> {
        let taken = self.publish(key);
        wipe_stack();
        taken
    }

    /// Not inlined, so that its frame is below [`wipe_stack`]'s caller.
    #[inline(never)]
    fn publish(&self, key: &Key) -> Result<(), NotPublished> {
        let sound = key.times.are_ordered() && (!key.aes_128 || key.node == IMPORTED);
        if !sound {
            return Err(NotPublished::Unusable);
        }
        self.writer.publish(key).map(drop)
    }

    /// Makes a key's times earlier, where those of `limit` are; none is ever made
    /// later. So a key begins before its time, or encrypts no longer; one that
    /// encrypts no longer does not begin again. False if there is none of that name.
    pub fn shorten(&self, name: &KeyName, limit: &KeyTimes) -> bool {
        let Some(entry) = self.find(name) else { return false };
        self.writer.shorten(entry.index, limit);
        self.align();
        true
    }

    /// Erases a key. False if there is none.
    pub fn erase(&self, name: &KeyName) -> bool {
        let Some(entry) = self.find(name) else { return false };
        self.keyring.align(&self.writer, self.now, &[entry]);
        self.writer.erase(entry.index);
        true
    }

    /// Erases a key that was revoked, if it is there, and lets the ring remember until then that it
    /// was. True if the ring does.
    pub fn bury(&self, name: &KeyName, until: Time) -> bool {
        let is_done = self.keyring.bury(&self.writer, name, until);
        self.erase(name);
        is_done
    }

    /// The fleet has come to this period and this epoch; neither ever goes back.
    pub fn raise_fleet(&self, period: u64, epoch: u64) {
        self.writer.raise_fleet_period(period);
        self.writer.raise_fleet_epoch(epoch);
    }

    /// Ends the lease: from now on servers rotate themselves.
    pub fn release(self) {
        self.writer.set_lease(Time(0));
    }

    fn find(&self, name: &KeyName) -> Option<Entry> {
        self.entries().into_iter().find(|entry| entry.name == *name)
    }

    /// At once, not only at the end of the act: what is done next may be to
    /// retire the key that encrypted so far.
    fn align(&self) {
        self.keyring.align(&self.writer, self.now, &[]);
    }
}

impl<C: Clock> Drop for Governed<'_, C> {
    fn drop(&mut self) {
        if self.keyring.ring().governed(self.now).is_some() {
            self.keyring.tend(&self.writer, self.now);
        } else {
            self.align();
            // Whoever comes by first sees to what the schedule wants.
            self.writer.set_deadline(self.now);
        }
    }
}
