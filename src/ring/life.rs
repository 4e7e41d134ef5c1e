//! Life is not a PID: which processes of a ring live, who of them sees to it, and whether an
//! agent governs it. Decided by what the kernel tells across PID namespaces, and by signs of
//! life.
//!
//! Of the upkeep threads of its servers, one leads. And a ring can be governed: an agent steers
//! its keys, for a whole fleet, and servers only erase what is over. The agent's right is a
//! lease, which it renews while it lives; when it has run out, servers rotate themselves again.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::layout::Member;
use super::map::Memory;
use super::mutex::{Sign, Taking};
use crate::clock::Time;
use crate::process::{self, ProcessId};

/// How long who leads the upkeep may show nothing.
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long a ring stays governed without a sign of life of its agent.
pub const LEASE: Duration = Duration::from_secs(3);

/// How long a process of another PID namespace counts that shows no sign of life, as
/// one without an upkeep thread: it may have been killed.
pub(super) const UNSEEN: Duration = Duration::from_secs(60);

/// The processes of a ring, as far as they live.
pub(super) struct Lives<'m>(pub &'m Memory);

impl<'m> Lives<'m> {
    /// How much of the lease is left; `None` if nobody governs the ring.
    ///
    /// A word further ahead than any agent puts it is none: it must not keep
    /// servers from rotating. Twice the lease, because an onlooker may have
    /// read his clock before the agent renewed it.
    pub fn lease_left(&self, now: Time) -> Option<Duration> {
        let left = now.until(Time(self.0.header().governed_until.load(Ordering::Relaxed)));
        (!left.is_zero() && left <= 2 * LEASE).then_some(left)
    }

    /// For how long the lease has been over that nobody gave back: its agent is gone, or hangs.
    pub fn lease_over_for(&self, now: Time) -> Option<Duration> {
        let until = Time(self.0.header().governed_until.load(Ordering::Relaxed));
        (until != Time(0) && until <= now).then(|| until.until(now))
    }

    /// True if this process leads, by the thread that does the upkeep and calls: it
    /// sees to the ring. Who leads shows it with each call; who shows nothing for
    /// [`SILENCE`], killed, stopped or paused, leads no more. One that goes on then
    /// leads for a moment beside another, which does no harm: what they do, they do
    /// under the writer lock. Never waits.
    pub fn leads(&self, process: ProcessId, now: Time) -> bool {
        // Acquire: who sees who leads, sees when he last showed it.
        let leader = self.0.header().leader.load(Ordering::Acquire);
        let led_at = Time(self.0.header().led_at.load(Ordering::Relaxed));
        // Nobody has led at a time that is yet to come.
        let is_silent = led_at + SILENCE <= now || led_at > now + SILENCE;
        if leader != process.0 && leader != 0 && !is_silent {
            return false;
        }
        self.0.header().led_at.store(now.0, Ordering::Relaxed);
        let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
        self.0.header().leader.compare_exchange(leader, process.0, taken, not).is_ok()
    }

    /// Leaves the lead to another one, at once.
    pub fn leave_lead(&self, process: ProcessId) {
        let relaxed = Ordering::Relaxed;
        let _ = self.0.header().leader.compare_exchange(process.0, 0, relaxed, relaxed);
    }

    /// Shows that this process lives, for as long as the calling thread does or until
    /// what is returned is dropped: for a thread that forks no child. `None` if
    /// another thread shows it already, or it cannot be shown: such a process is
    /// believed for a while.
    ///
    /// # Safety
    ///
    /// The ring stays mapped for as long as the thread lives.
    pub unsafe fn show(&self, process: ProcessId) -> Option<Shown<'m>> {
        let member = self.member(process)?;
        // SAFETY: passed on from the caller.
        let is_shown = unsafe { member.take_life(0) };
        is_shown.then(|| Shown { member, _same_thread: PhantomData })
    }

    /// True if that process is gone. Of another PID namespace the kernel tells only of one
    /// that showed life; any other is believed for [`UNSEEN`] after it told anything.
    pub fn is_over(&self, process: ProcessId, now: Time) -> bool {
        let member = self.member(process);
        match member.map(|member| (member, member.life.sign())) {
            Some((_, Sign::Died)) => true,
            _ if process.is_of_this_namespace() => is_gone(process.pid()),
            Some((_, Sign::Lives(_))) => false,
            Some((member, Sign::None)) => {
                Time(member.told_at.load(Ordering::Relaxed)) + UNSEEN <= now
            }
            // One of more than have a place here.
            None => false,
        }
    }

    fn member(&self, process: ProcessId) -> Option<&'m Member> {
        let is_its = |member: &&Member| member.process.load(Ordering::Acquire) == process.0;
        self.0.members().iter().find(is_its)
    }
}

/// That a process lives; given up by the thread that shows it.
pub struct Shown<'r> {
    member: &'r Member,
    _same_thread: PhantomData<*const ()>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        // SAFETY: `show` took it on this thread.
        unsafe { self.member.leave_life() };
    }
}

impl Member {
    /// What that process told; `None` if it has told nothing here.
    pub(super) fn told_by(&self, process: ProcessId) -> Option<u64> {
        let is_its = self.process.load(Ordering::Acquire) == process.0;
        (process.is_some() && is_its).then(|| self.told.load(Ordering::Relaxed))
    }

    /// Makes it that of a process that has claimed the block, and told nothing yet.
    /// True if one of the same number had it, and is dead: in a new container numbers
    /// of a former one come again.
    pub(super) fn begin(&self, process: ProcessId, now: Time) -> bool {
        let is_new = self.told_by(process).is_none();
        let is_of_the_dead = self.life.sign() == Sign::Died;
        if !is_new && !is_of_the_dead {
            return false;
        }
        let former = self.shown_by.load(Ordering::Relaxed);
        // One of several threads removes what is left of the dead one.
        // SAFETY: it lives no more; and this thread leaves at once.
        if (is_of_the_dead || former != 0) && unsafe { self.take_life(former) } {
            // SAFETY: taken just now.
            unsafe { self.leave_life() };
        }
        self.told.store(0, Ordering::Relaxed);
        self.traits.store(0, Ordering::Relaxed);
        self.told_at.store(now.0, Ordering::Relaxed);
        self.process.store(process.0, Ordering::Release);
        !is_new
    }

    /// # Safety
    ///
    /// `former`, if not 0, is of one that is dead; the rest is as for
    /// [`super::mutex::RobustMutex::try_take`].
    unsafe fn take_life(&self, former: u64) -> bool {
        let own = former.wrapping_add(1).max(1);
        let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
        if self.shown_by.compare_exchange(former, own, taken, not).is_err() {
            return false;
        }
        // SAFETY: nobody else's, by the exchange; passed on from the caller.
        let shows = unsafe { self.life.try_take() } == Taking::Taken;
        if !shows {
            self.shown_by.store(0, Ordering::Release);
        }
        shows
    }

    /// # Safety
    ///
    /// The calling thread took it.
    unsafe fn leave_life(&self) {
        // SAFETY: passed on from the caller.
        unsafe { self.life.give_back() };
        self.shown_by.store(0, Ordering::Release);
    }
}

/// True if there is no such process in this PID namespace. Not in a process that may
/// not ask.
fn is_gone(pid: u32) -> bool {
    if process::is_confined() {
        return false;
    }
    // SAFETY: signal 0 only asks whether the process exists.
    let rc = unsafe { libc::kill(pid as libc::pid_t, 0) };
    rc != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}
