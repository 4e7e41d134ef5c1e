//! The upkeep thread: rotates and erases on time when no handshake happens.
//!
//! Each process that uses tickets has one. One of them has the lead, for as long as
//! it shows that it is at work, and sees to the ring; all see to what their own
//! process keeps of its keys, and show that it lives. The thread runs with all
//! signals blocked, so that none is delivered to it instead of to the server.
//!
//! It is started by the thread that serves, at its first ticket, and so has that
//! one's rights; or before, where threads are about to be forbidden
//! ([`start_early`]). Whatever interrupts its sleep is a wake-up: only where it
//! cannot sleep at all it ends, which is said once. Then handshakes rotate, another
//! process takes the lead, and a later ticket tries again, less and less often.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::clock::{BootClock, Clock, Time, nanos};
use crate::log::OnceOnly;
use crate::process::{self, SignalsBlocked, Working};
use crate::rotate::Keyring;
use crate::{confine, error, warning};

/// The longest sleep: another process may have moved the deadline, and after
/// a suspension of the machine a sleep ends late.
const NAP: Duration = Duration::from_secs(1);
/// How much later than the one that leads the others do what is due, if that one does
/// not: it is stopped, or paused.
const GRACE: Duration = Duration::from_millis(300);
const STACK: usize = 256 * 1024;
/// How long after a thread could not be started, or ended, a ticket may try
/// again: at first, and when that went on failing.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(600);
/// How often, and how far apart, it is looked whether a thread has ended.
const LOOKS: usize = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// What else a process has to see to: does it, and returns when it wants to be
/// called next, at the latest.
pub type Chore = fn(Time) -> Time;

static CHORE: OnceBox<Chore> = OnceBox::new();

/// A keyring's thread in this process.
struct Duty {
    keyring: &'static Keyring,
    /// The [`process::generation`] that the rest is about.
    generation: AtomicU32,
    /// It is there, or about to be.
    runs: AtomicBool,
    /// It started early, and will not again.
    confined: AtomicBool,
    /// Its number; 0 before it has told.
    number: AtomicI32,
    /// When a ticket may start it again; [`Time::NEVER`] if it is not missing.
    again_at: AtomicU64,
    /// How long that will be put off the next time.
    pause: AtomicU64,
    next: *const Duty,
}

// SAFETY: `next` is written before the Duty is shared; the rest is Sync.
unsafe impl Sync for Duty {}

/// Newest first, never removed: one for each keyring.
static DUTIES: AtomicPtr<Duty> = AtomicPtr::new(ptr::null_mut());
/// The earliest `again_at`.
static AGAIN_AT: AtomicU64 = AtomicU64::new(Time::NEVER.0);
/// The [`process::generation`] whose threads have to end; 0 for none. They sleep on it.
static LEAVING: AtomicU32 = AtomicU32::new(0);

/// Starts the thread of this process for a keyring; `chore` is the same at each
/// call. Once per process and keyring. A process that may not have a thread (RLIMIT_NPROC)
/// goes on without: the callback rotates as well, and does the chore.
pub fn start(keyring: &'static Keyring, chore: Chore) {
    begin(keyring, chore, false);
}

/// As [`start`], for a process that is about to forbid itself threads, but may
/// have more rights now than when it will serve: only if it has no capability any
/// more, and a thread that takes from itself all that the upkeep does not need.
/// False if nothing was started, and nothing tried.
pub fn start_early(keyring: &'static Keyring, chore: Chore) -> bool {
    let starts = confine::has_no_capabilities() && !process::borrows_memory() && keyring.settle();
    if starts {
        begin(keyring, chore, true);
    }
    starts
}

fn begin(keyring: &'static Keyring, chore: Chore, confined: bool) {
    process::notice_end_of_main();
    CHORE.get_or_init(|| Box::new(chore));
    let duty = Duty::of(keyring);
    duty.confined.store(confined, Ordering::Relaxed);
    duty.pause.store(nanos(FIRST_PAUSE), Ordering::Relaxed);
    duty.again_at.store(Time::NEVER.0, Ordering::Relaxed);
    duty.generation.store(process::generation(), Ordering::SeqCst);
    duty.launch();
}

/// For a ticket, now and then: where a thread is missing, it may be time to try
/// again to start it.
#[cold]
pub fn tend(now: Time) {
    if now.0 < AGAIN_AT.load(Ordering::Relaxed) || process::borrows_memory() {
        return;
    }
    // One of several threads. What is missing from now on sets it again.
    if AGAIN_AT.swap(Time::NEVER.0, Ordering::SeqCst) == Time::NEVER.0 {
        return;
    }
    for duty in duties().filter(|duty| duty.is_of_this_process()) {
        let due = duty.again_at.load(Ordering::SeqCst);
        if due > now.0 {
            AGAIN_AT.fetch_min(due, Ordering::SeqCst);
        } else {
            duty.again_at.store(Time::NEVER.0, Ordering::SeqCst);
            duty.launch();
        }
    }
}

/// The server is about to confine itself. Threads of ours that are there would
/// keep what it gives up; or, being confined already, keep it from confining all
/// threads at once; or make a call for which its filter ends the process. So they end, and
/// handshakes rotate from now on. Waits for that, which takes microseconds, but not for ever.
///
/// One that would start later might make such a call, too, and so might a line in the log: if
/// a thread `is_expected`, its lack is told now, and nothing any more from then on.
pub fn leave(is_expected: bool) {
    if process::borrows_memory() {
        return;
    }
    LEAVING.store(process::generation(), Ordering::SeqCst);
    if is_at_work() {
        wait_for_the_end();
    }
    if is_expected {
        tell_filter();
    }
    process::set_confined(true);
}

/// The calling thread is about to give up rights that are its alone (capset(2)). A
/// thread of ours would keep them; and when such a server changes its user next, for
/// which glibc makes every thread do the same (nptl(7)), it may where the others may
/// not, or the reverse, and glibc ends the process. So it ends. True if there
/// was one: after [`stay`] a ticket starts another, with the rights that are left.
pub fn step_aside() -> bool {
    let is_there = !process::borrows_memory() && !is_leaving() && is_at_work();
    // Of what has none, none can be taken; nor did its early thread have any.
    if !is_there || confine::has_no_capabilities() {
        return false;
    }
    LEAVING.store(process::generation(), Ordering::SeqCst);
    wait_for_the_end();
    true
}

fn is_at_work() -> bool {
    let is_ours = |duty: &Duty| duty.is_of_this_process() && duty.runs.load(Ordering::SeqCst);
    duties().any(is_ours)
}

/// Of threads that are told to end.
fn wait_for_the_end() {
    // SAFETY: wakes who sleeps on a word of ours.
    unsafe {
        let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, LEAVING.as_ptr(), wake, libc::c_int::MAX);
    }
    for _ in 0..LOOKS {
        if !duties().any(Duty::has_a_thread) {
            break;
        }
        // An interruption is a look more.
        let _ = nap(BETWEEN_LOOKS);
    }
}

/// The filter was refused, or was none: threads may be there again.
pub fn stay() {
    if process::borrows_memory() {
        return;
    }
    LEAVING.store(0, Ordering::SeqCst);
    process::set_confined(false);
    for duty in duties().filter(|duty| duty.is_of_this_process()) {
        if !duty.runs.load(Ordering::SeqCst) {
            duty.again_at.store(0, Ordering::SeqCst);
            AGAIN_AT.store(0, Ordering::SeqCst);
        }
    }
}

fn tell_filter() {
    static SAID: OnceOnly = OnceOnly::new();
    if SAID.first() {
        warning!(
            "the server confines itself by a filter of system calls: it has no upkeep thread \
             from now on; keys rotate, and expired ones are erased, only with handshakes; set \
             TKTROT_UPKEEP=callback if that is intended"
        );
    }
}

/// A filter is there, of this process or of the one that it was forked from.
fn is_leaving() -> bool {
    LEAVING.load(Ordering::SeqCst) != 0
}

fn duties() -> impl Iterator<Item = &'static Duty> {
    // SAFETY: null or a leaked Duty, complete before it was published
    // (Acquire pairs with the Release in `Duty::of`); so is each `next`.
    let first = unsafe { DUTIES.load(Ordering::Acquire).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |duty| unsafe { duty.next.as_ref() })
}

impl Duty {
    /// The one for that keyring. Only one thread at a time asks for the same one.
    fn of(keyring: &'static Keyring) -> &'static Duty {
        if let Some(duty) = duties().find(|duty| ptr::eq(duty.keyring, keyring)) {
            return duty;
        }
        let duty = Box::leak(Box::new(Duty {
            keyring,
            generation: AtomicU32::new(0),
            runs: AtomicBool::new(false),
            confined: AtomicBool::new(false),
            number: AtomicI32::new(0),
            again_at: AtomicU64::new(Time::NEVER.0),
            pause: AtomicU64::new(0),
            next: ptr::null(),
        }));
        loop {
            let first = DUTIES.load(Ordering::Acquire);
            duty.next = first;
            let (new, success) = (ptr::from_mut(duty), Ordering::Release);
            if DUTIES.compare_exchange(first, new, success, Ordering::Relaxed).is_ok() {
                return duty;
            }
        }
    }

    fn is_of_this_process(&self) -> bool {
        self.generation.load(Ordering::SeqCst) == process::generation()
    }

    fn launch(&'static self) {
        if is_leaving() {
            return;
        }
        self.number.store(0, Ordering::SeqCst);
        self.runs.store(true, Ordering::SeqCst);
        let errno = create(self);
        if errno == 0 {
            return;
        }
        self.ended();
        static SAID: OnceOnly = OnceOnly::new();
        if SAID.first() {
            warning!(
                "no thread can be started (RLIMIT_NPROC?): {}; keys rotate, and expired ones \
                 are erased, only with handshakes; set TKTROT_UPKEEP=callback if that is intended",
                io::Error::from_raw_os_error(errno)
            );
        }
    }

    /// The thread is not there any more, or never was. A process that forbade
    /// itself threads, or confines itself, gets none again.
    fn ended(&self) {
        self.runs.store(false, Ordering::SeqCst);
        if self.confined.load(Ordering::Relaxed) || is_leaving() {
            return;
        }
        let pause = Duration::from_nanos(self.pause.load(Ordering::Relaxed));
        let longer = (2 * pause).min(LAST_PAUSE);
        self.pause.store(nanos(longer), Ordering::Relaxed);
        let again_at = (BootClock.now() + pause).0;
        self.again_at.store(again_at, Ordering::SeqCst);
        AGAIN_AT.fetch_min(again_at, Ordering::SeqCst);
    }

    /// Also when it has done all it does, and is ending.
    fn has_a_thread(&self) -> bool {
        if !self.is_of_this_process() {
            return false;
        }
        match self.number.load(Ordering::SeqCst) {
            0 => self.runs.load(Ordering::SeqCst),
            // SAFETY: signal 0 only asks whether that thread is there.
            number => unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, 0) == 0 },
        }
    }
}

/// Returns the errno value; 0 if the thread is there.
fn create(duty: &'static Duty) -> libc::c_int {
    let _inherited_by_the_thread = SignalsBlocked::new();
    let argument = ptr::from_ref(duty).cast_mut().cast::<c_void>();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised before and destroyed after their
    // use; the argument lives for ever and is what `run` expects.
    unsafe {
        let attr = attributes.as_mut_ptr();
        match libc::pthread_attr_init(attr) {
            0 => {
                libc::pthread_attr_setstacksize(attr, STACK);
                libc::pthread_attr_setdetachstate(attr, libc::PTHREAD_CREATE_DETACHED);
                let errno = libc::pthread_create(thread.as_mut_ptr(), attr, run, argument);
                libc::pthread_attr_destroy(attr);
                errno
            }
            errno => errno,
        }
    }
}

extern "C" fn run(duty: *mut c_void) -> *mut c_void {
    // SAFETY: `create` passes a `&'static Duty`.
    let duty: &'static Duty = unsafe { &*duty.cast::<Duty>() };
    // Before anything else. What should be confined and cannot be is not there.
    let confined = duty.confined.load(Ordering::Relaxed);
    let may_run = !confined || confine::to_upkeep();
    // SAFETY: cannot fail; older C libraries have no function for it.
    let number = unsafe { libc::syscall(libc::SYS_gettid) };
    duty.number.store(number as i32, Ordering::SeqCst);
    if !may_run {
        static SAID: OnceOnly = OnceOnly::new();
        if SAID.first() {
            warning!(
                "the upkeep thread cannot confine itself and stops; keys rotate, and expired \
                 ones are erased, only with handshakes"
            );
        }
        duty.ended();
        return ptr::null_mut();
    }
    // It names itself: to name another thread glibc opens a file under /proc,
    // which is not there in a chroot.
    // SAFETY: the calling thread, and a name of less than 16 bytes.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), c"tktrot".as_ptr()) };
    match catch_unwind(AssertUnwindSafe(|| attend(duty.keyring, !confined))) {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tell_end(&why),
        Err(_) => {
            error!("a bug in libtktrot's upkeep thread; rotation goes on with handshakes");
        }
    }
    duty.ended();
    ptr::null_mut()
}

fn tell_end(why: &io::Error) {
    static SAID: OnceOnly = OnceOnly::new();
    if SAID.first() {
        error!(
            "the upkeep thread cannot sleep, and ends: {why}; keys rotate, and expired ones \
             are erased, only with handshakes"
        );
    }
}

/// Ends where it cannot sleep, where the server confines itself, and with the last
/// thread of the server.
fn attend(keyring: &Keyring, looks: bool) -> io::Result<()> {
    let (ring, process) = (keyring.ring(), process::id());
    let mut shown = None;
    while !is_leaving() {
        if looks && is_left_alone() {
            break;
        }
        let permit = Working::begin();
        if shown.is_none() {
            // SAFETY: a keyring's ring stays mapped for as long as the process lives.
            shown = unsafe { ring.show_life(process) };
        }
        let now = keyring.now();
        let leads = ring.leads(process, now);
        let grace = if leads { Duration::ZERO } else { GRACE };
        // Neither waits for a lock: a fork may wait for the permit.
        if now >= ring.deadline() + grace {
            keyring.tick(now);
        }
        if looks && !process::may_be_confined() {
            say_if_removed(keyring);
        }
        keyring.lock_more();
        ring.follow_older(keyring.now());
        let next = CHORE.get().map_or(Time::NEVER, |chore| chore(keyring.now()));
        drop(permit);
        sleep_until((ring.deadline() + grace).min(next), keyring.now())?;
    }
    ring.leave_lead(process);
    Ok(())
}

/// Once for all processes that have it.
fn say_if_removed(keyring: &Keyring) {
    let ring = keyring.ring();
    if !ring.is_noted_removed() && ring.lost_its_file() && ring.note_removed() {
        warning!(
            "the ring's file was removed: servers that have it go on with its keys, those that \
             start or reload from now on make another ring, and neither open tickets of the other; \
             restart all of them (`tktrot status` shows both)"
        );
    }
}

/// True if the main thread has ended (pthread_exit(3)) and none of the server's is
/// left: without a thread of ours, the process would have ended. False where /proc
/// does not tell. It is asked without a descriptor: the server may be about to open
/// a file that is to have a certain number.
fn is_left_alone() -> bool {
    process::may_have_lost_main() && main_has_ended() && {
        let ours = duties().filter(|duty| duty.has_a_thread()).count();
        // The main thread counts until the process ends.
        threads().is_some_and(|threads| threads <= ours + 1)
    }
}

/// A thread that has ended has no executable (proc(5), /proc/PID/exe).
fn main_has_ended() -> bool {
    let mut name = [0u8; 1];
    // SAFETY: a NUL-terminated name and a valid buffer.
    let length =
        unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), name.as_mut_ptr().cast(), name.len()) };
    length == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT)
}

/// How many there are: as many subdirectories has /proc/self/task.
fn threads() -> Option<usize> {
    // SAFETY: zero is a valid stat, and the call fills it.
    let mut facts: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated name and a valid buffer.
    let rc = unsafe { libc::stat(c"/proc/self/task".as_ptr(), &mut facts) };
    (rc == 0).then(|| (facts.st_nlink as usize).saturating_sub(2))
}

/// Sleeps until the deadline, but no longer than [`NAP`]; or less, if something
/// interrupts it: a signal that cannot be blocked (glibc's, when a server
/// changes its user), a debugger.
fn sleep_until(deadline: Time, now: Time) -> io::Result<()> {
    if now == Time::NEVER {
        // The clock fails: what it is asked to sleep by is none.
        return nap(NAP);
    }
    // A deadline that has passed is one that the generator or another writer
    // kept from being met: not a reason to spin.
    let until = deadline.min(now + NAP).max(now + Duration::from_millis(10));
    if sleeps_until_told(now.until(until)) {
        return Ok(());
    }
    sleep_by_the_clock(until)
}

fn sleep_by_the_clock(until: Time) -> io::Result<()> {
    // SAFETY: a valid absolute time; a failure only means a shorter sleep.
    let rc = unsafe {
        let until = timespec(BootClock::in_namespace(until));
        libc::clock_nanosleep(libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME, &until, ptr::null_mut())
    };
    match rc {
        0 | libc::EINTR => Ok(()),
        _ => nap(Duration::from_millis(100)),
    }
}

/// By a call that every server makes itself: not all kernels and filters of
/// system calls know the other one. (The standard library's sleep panics.)
fn nap(span: Duration) -> io::Result<()> {
    let limit = span.as_millis().max(1) as libc::c_int;
    // SAFETY: no descriptors, so nothing but the time is looked at.
    if unsafe { libc::poll(ptr::null_mut(), 0, limit) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// Sleeps, but wakes at once for [`leave`]. False if that cannot be had.
fn sleeps_until_told(span: Duration) -> bool {
    let before = LEAVING.load(Ordering::SeqCst);
    if before == process::generation() {
        return true;
    }
    let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let span = timespec(span);
    // SAFETY: a word of ours and a valid span.
    let rc =
        unsafe { libc::syscall(libc::SYS_futex, LEAVING.as_ptr(), wait, before, &raw const span) };
    let woken = [libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT];
    rc == 0 || io::Error::last_os_error().raw_os_error().is_some_and(|error| woken.contains(&error))
}

fn timespec(span: Duration) -> libc::timespec {
    libc::timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos().into() }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::ring::Ring;
    use crate::ring::layout::Capacity;

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    #[test]
    fn who_is_silent_leaves_the_lead_to_another() {
        use crate::process::ProcessId;
        use crate::ring::life::SILENCE;
        let ring = ring();
        let leads = |process, now| ring.leads(ProcessId(process), now);
        let mut now = Time(1 << 40);
        assert!(leads(1, now));
        for _ in 0..10 {
            now = now + SILENCE / 2;
            assert!(leads(1, now) && !leads(2, now));
        }
        now = now + SILENCE;
        assert!(leads(2, now) && !leads(1, now));
        ring.leave_lead(ProcessId(1));
        assert!(!leads(1, now));
        ring.leave_lead(ProcessId(2));
        assert!(leads(1, now));
        // A clock that went wrong, or a ring that was prepared.
        ring.header().led_at.store(u64::MAX / 2, Ordering::Relaxed);
        assert!(leads(2, now));
    }

    #[test]
    fn nobody_is_left_alone_whose_main_thread_lives() {
        assert!(!main_has_ended() && !process::may_have_lost_main() && !is_left_alone());
        let before = threads().unwrap();
        assert!(before >= 1);
        thread::scope(|scope| {
            let several = [(); 8].map(|()| scope.spawn(|| threads().unwrap()));
            let seen = several.map(|thread| thread.join().unwrap());
            assert!(seen.iter().all(|threads| *threads >= 2), "{seen:?}");
        });
    }

    /// By signals with a handler, as those that glibc sends.
    #[test]
    fn an_interrupted_sleep_is_a_wake_up() {
        static CAUGHT: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn caught(_signal: libc::c_int) {
            CAUGHT.fetch_add(1, Ordering::SeqCst);
        }
        const SIGNAL: libc::c_int = libc::SIGURG;
        // SAFETY: a handler that only counts; without SA_RESTART, which would make no difference.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = caught as *const () as usize;
            assert_eq!(libc::sigaction(SIGNAL, &action, ptr::null_mut()), 0);
        }
        {
            let (done, before) = (AtomicBool::new(false), CAUGHT.load(Ordering::SeqCst));
            thread::scope(|scope| {
                // SAFETY: cannot fail.
                let sleeper = unsafe { libc::pthread_self() } as usize;
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        // SAFETY: to a thread that waits for this one to end.
                        unsafe { libc::pthread_kill(sleeper as libc::pthread_t, SIGNAL) };
                        thread::sleep(Duration::from_micros(100));
                    }
                });
                let enough = || CAUGHT.load(Ordering::SeqCst) >= before + 200;
                let slept = (0..100_000).try_for_each(|_| {
                    if enough() {
                        return Ok(());
                    }
                    let now = BootClock.now();
                    sleep_until(now + NAP, now)?;
                    sleep_by_the_clock(now + NAP)?;
                    sleep_until(Time::NEVER, Time::NEVER)
                });
                done.store(true, Ordering::SeqCst);
                slept.unwrap();
                assert!(enough());
            });
        }
    }
}
