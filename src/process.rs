//! What must hold across fork and exit of the process we are guests in.
//!
//! - One lock, [`exclusive`], guards everything that is set up rarely (rings,
//!   contexts, the log). It is held over a fork, so that a child never finds
//!   it taken, and with signals blocked, so that no handler runs in between.
//! - [`generation`] changes in a forked child: threads of the parent are not
//!   there any more. What must be done again at once, [`in_each_child`] does.
//! - [`Working`] is the upkeep thread's time inside the TLS library. A fork
//!   waits for its end, so that no lock of that library is held in the child
//!   by a thread that is not there; an exit, so that the library is not pulled
//!   away under the thread. From then on the thread neither works nor ends: at
//!   its end the library would free what it keeps for a thread, beside its own
//!   exit handler.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceBox;

use crate::{clock, random};

static GENERATION: AtomicU32 = AtomicU32::new(1);
static FORKED: AtomicBool = AtomicBool::new(false);
/// The process that this memory belongs to.
static OWNER: AtomicU32 = AtomicU32::new(0);
static EXITING: AtomicBool = AtomicBool::new(false);
static SETUP: Lock = Lock::new();
static WORK: Lock = Lock::new();
static LOOK: Lock = Lock::new();

/// A number that is another one in each forked child; never 0.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Lets one thread at a time do something, and the others go on without. One that was at it when
/// this process was forked is not there in the child.
#[derive(Default)]
pub struct OneAtATime(AtomicU32);

impl OneAtATime {
    /// Nobody is at it.
    pub const fn new() -> Self {
        OneAtATime(AtomicU32::new(0))
    }

    /// Does it, unless another thread is at it.
    pub fn attempt(&self, act: impl FnOnce()) {
        let (now, before) = (generation(), self.0.load(Ordering::Relaxed));
        let taken = before != now
            && self.0.compare_exchange(before, now, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if taken {
            act();
            self.0.store(0, Ordering::Release);
        }
    }
}

/// True in the child of a fork that happened since the library is in use.
pub fn is_child() -> bool {
    generation() != 1
}

/// True once this process has forked: children share what it opened.
pub fn has_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Asks for the notices of fork and exit. Called once the TLS library has
/// registered its own exit handler, so that ours runs before it.
pub fn watch() {
    notice_end_of_main();
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        OWNER.store(std::process::id(), Ordering::Relaxed);
        // SAFETY: the handlers are plain functions of this library, which is
        // never unloaded (linked with -z nodelete). A failure (ENOMEM) leaves
        // us without notice, as before the call.
        unsafe {
            libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child));
            libc::atexit(at_exit);
        }
    });
}

/// The [`generation`] whose main thread may have ended before its process; 0 for none.
static MAIN_ENDED: AtomicU32 = AtomicU32::new(0);

/// If the calling thread is the main thread, its end will be noted (pthread_exit(3));
/// whichever it is, it may call.
pub fn notice_end_of_main() {
    // Two threads at once may make two; one is used.
    static AT_ITS_END: OnceBox<Option<libc::pthread_key_t>> = OnceBox::new();
    let made = AT_ITS_END.get_or_init(|| {
        let mut key = 0;
        // SAFETY: a valid place; the function is one of this library, which is never unloaded.
        let rc = unsafe { libc::pthread_key_create(&mut key, Some(thread_ends)) };
        Box::new((rc == 0).then_some(key))
    });
    if let Some(key) = made {
        // SAFETY: a key of ours. Only a value that is not null has its end noted.
        unsafe { libc::pthread_setspecific(*key, (&raw const MAIN_ENDED).cast()) };
    }
}

/// Destructors of the C++ and Rust kind are not called for a main thread that ends so.
unsafe extern "C" fn thread_ends(_value: *mut libc::c_void) {
    // SAFETY: takes nothing and cannot fail.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    if u32::try_from(thread) == Ok(std::process::id()) {
        MAIN_ENDED.store(generation(), Ordering::Relaxed);
    }
}

/// False while the main thread is certainly there: as far as it has been here
/// ([`notice_end_of_main`]), and did not end by a bare system call.
pub fn may_have_lost_main() -> bool {
    MAIN_ENDED.load(Ordering::Relaxed) == generation()
}

static CONFINED: AtomicBool = AtomicBool::new(false);

/// Notes that a filter of system calls is there, for this process and those that it
/// forks, or is there no longer.
pub fn set_confined(is_confined: bool) {
    CONFINED.store(is_confined, Ordering::Relaxed);
}

static FILTERS_ARE_SEEN: AtomicBool = AtomicBool::new(false);

/// Notes that somebody stands in front of the calls by which a process confines itself,
/// and tells it: the shim.
pub fn filters_are_seen() {
    FILTERS_ARE_SEEN.store(true, Ordering::Relaxed);
}

/// True where nobody would tell of a filter, and there may be one: a server that links the
/// library confines its workers, or itself, without a word.
pub fn may_be_confined() -> bool {
    is_confined() || (is_child() && !FILTERS_ARE_SEEN.load(Ordering::Relaxed))
}

/// True where whoever makes a call that a server has no need of may be ended for it.
pub fn is_confined() -> bool {
    CONFINED.load(Ordering::Relaxed)
}

/// Lets `last` run when this process exits, on the thread that calls exit(3),
/// maybe in a signal handler: so it may wait for nothing. There is one such
/// function; the first one stays.
pub fn at_the_end(last: fn()) {
    // Set before is as well.
    let _ = AT_THE_END.set(Box::new(last));
}

static AT_THE_END: OnceBox<fn()> = OnceBox::new();

/// True in a child of vfork, whose memory is its parent's: what it does to
/// itself must not be noted there.
pub fn borrows_memory() -> bool {
    OWNER.load(Ordering::Relaxed) != std::process::id()
}

/// Lets `again` run in each forked child before fork returns there: on its only
/// thread, with [`exclusive`] held for it, so it may do nothing but system calls.
/// There is one such function; the last one stays.
pub fn in_each_child(again: fn()) {
    let _lock = exclusive();
    // SAFETY: only the holder of SETUP looks at it.
    unsafe { *IN_EACH_CHILD.0.get() = Some(again) };
}

struct InEachChild(UnsafeCell<Option<fn()>>);

// SAFETY: only the holder of SETUP looks at it.
unsafe impl Sync for InEachChild {}

static IN_EACH_CHILD: InEachChild = InEachChild(UnsafeCell::new(None));

/// A lock that fork handlers can take on behalf of the child.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: pthread functions are the only access to the mutex.
unsafe impl Sync for Lock {}

impl Lock {
    const fn new() -> Self {
        Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))
    }

    fn lock(&self) {
        // SAFETY: the mutex is statically initialised and never destroyed.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }

    fn try_lock(&self) -> bool {
        // SAFETY: as in `lock`.
        unsafe { libc::pthread_mutex_trylock(self.0.get()) == 0 }
    }

    /// # Safety
    ///
    /// The calling thread locked it; or is the child's copy of the one that did.
    unsafe fn unlock(&self) {
        // SAFETY: the caller owns the lock.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

/// Held while something is set up.
pub struct Exclusive {
    _signals: SignalsBlocked,
}

/// Waits until no other thread sets something up. Not re-entrant.
pub fn exclusive() -> Exclusive {
    let signals = SignalsBlocked::new();
    SETUP.lock();
    Exclusive { _signals: signals }
}

/// As [`exclusive`], but `None` instead of waiting.
pub fn try_exclusive() -> Option<Exclusive> {
    let signals = SignalsBlocked::new();
    // Made only if the lock is ours: dropping one unlocks.
    SETUP.try_lock().then(|| Exclusive { _signals: signals })
}

thread_local! {
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Held while a connection is made to look at its context, for which the TLS library
/// takes locks of its own: nobody forks meanwhile, so that no child finds one taken. What it
/// calls back may take [`exclusive`].
pub struct Looking {
    _signals: SignalsBlocked,
}

/// Waits until no other thread looks. Not re-entrant, and not with [`exclusive`] held.
pub fn looking() -> Looking {
    let signals = SignalsBlocked::new();
    LOOK.lock();
    LOOKING.set(true);
    Looking { _signals: signals }
}

/// True while this thread does, for who stands in front of `SSL_new`: a host's table may
/// have that one.
pub fn is_looking() -> bool {
    LOOKING.get()
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.set(false);
        // SAFETY: `looking` locked it on this thread, as for Exclusive.
        unsafe { LOOK.unlock() };
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // SAFETY: `exclusive` locked it on this thread; SignalsBlocked keeps
        // the guard from being sent to another.
        unsafe { SETUP.unlock() };
    }
}

/// While it lives, no signal handler runs on this thread, and a thread that
/// it creates starts with all signals blocked.
pub struct SignalsBlocked {
    before: libc::sigset_t,
    _same_thread: PhantomData<*const ()>,
}

impl SignalsBlocked {
    /// Blocks all signals of this thread.
    pub fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises `all`; pthread_sigmask, which cannot
        // fail with SIG_SETMASK, initialises `before`.
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        SignalsBlocked { before, _same_thread: PhantomData }
    }
}

impl Default for SignalsBlocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// The upkeep thread's permit to call the TLS library; held for microseconds.
pub struct Working {
    _same_thread: PhantomData<*const ()>,
}

impl Working {
    /// Does not return once the process exits: the TLS library may be gone.
    pub fn begin() -> Self {
        WORK.lock();
        let permit = Working { _same_thread: PhantomData };
        // Under the lock that `at_exit` waits for after it has set this.
        if EXITING.load(Ordering::Relaxed) {
            drop(permit);
            loop {
                // SAFETY: no preconditions. All signals are blocked in the
                // upkeep thread, so it sleeps until the process is gone.
                unsafe { libc::pause() };
            }
        }
        permit
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // SAFETY: `begin` locked it on this thread, and a permit is not Send.
        unsafe { WORK.unlock() };
    }
}

extern "C" fn at_exit() {
    EXITING.store(true, Ordering::Relaxed);
    WORK.lock();
    // SAFETY: locked above.
    unsafe { WORK.unlock() };
    if let Some(last) = AT_THE_END.get() {
        last();
    }
}

/// The mask of the thread that forks. Servers fork in signal handlers, too
/// (stud, in that of SIGCHLD): one that ran between the handlers below would
/// wait for locks that its own thread holds.
struct Forking(UnsafeCell<Option<SignalsBlocked>>);

// SAFETY: only the holder of SETUP looks at it.
unsafe impl Sync for Forking {}

static FORKING: Forking = Forking(UnsafeCell::new(None));

extern "C" fn before_fork() {
    FORKED.store(true, Ordering::Relaxed);
    let signals = SignalsBlocked::new();
    // Holders of any never fork, and never take them in another order.
    LOOK.lock();
    SETUP.lock();
    WORK.lock();
    clock::before_fork();
    // SAFETY: this thread holds SETUP.
    unsafe { *FORKING.0.get() = Some(signals) };
}

extern "C" fn in_parent() {
    // SAFETY: `before_fork` locked them on this thread.
    let signals = unsafe {
        let signals = (*FORKING.0.get()).take();
        WORK.unlock();
        SETUP.unlock();
        LOOK.unlock();
        signals
    };
    drop(signals);
}

extern "C" fn in_child() {
    let next = GENERATION.load(Ordering::Relaxed).wrapping_add(1).max(1);
    GENERATION.store(next, Ordering::Relaxed);
    FORKED.store(false, Ordering::Relaxed);
    OWNER.store(std::process::id(), Ordering::Relaxed);
    clock::after_fork();
    // SAFETY: the thread that forked, and now is this one, holds SETUP.
    if let Some(again) = unsafe { *IN_EACH_CHILD.0.get() } {
        again();
    }
    in_parent();
}

/// A process of this machine: no other one that lives has the same, whatever PID
/// namespace it is in (pid_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// Of a PID namespace, by its inode, the process of that number in it.
    pub fn new(namespace: u32, pid: u32) -> Self {
        ProcessId(u64::from(namespace) << 32 | u64::from(pid))
    }

    /// Its number, in its own PID namespace.
    pub fn pid(self) -> u32 {
        self.0 as u32
    }

    /// The inode of its PID namespace, or a random number where /proc does not tell.
    pub fn namespace(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// True if it names a process; false for the id that stands for none.
    pub fn is_some(self) -> bool {
        self.0 != 0
    }

    /// True if its number is one in this process' namespace.
    pub fn is_of_this_namespace(self) -> bool {
        self.namespace() == id().namespace()
    }
}

/// The id of this process.
pub fn id() -> ProcessId {
    static NAMESPACE: AtomicU32 = AtomicU32::new(0);
    static LOOKED: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let this = u64::from(generation()) << 32 | u64::from(pid);
    // A child is in its parent's, unless it is the first one in another. Whoever has no
    // /proc any more stays with what it knew.
    let is_new = LOOKED.swap(this, Ordering::Relaxed) != this && pid == 1;
    let known = NAMESPACE.load(Ordering::Relaxed);
    if known != 0 && !is_new {
        return ProcessId::new(known, pid);
    }
    let namespace = pid_namespace().unwrap_or_else(|| match known {
        0 => nobodys_namespace(),
        known => known,
    });
    // Of two threads that look at once, both are right, or the first one is.
    let found =
        match NAMESPACE.compare_exchange(known, namespace, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => namespace,
            Err(first) => first,
        };
    ProcessId::new(found, pid)
}

fn pid_namespace() -> Option<u32> {
    let facts = std::fs::metadata("/proc/self/ns/pid").ok()?;
    Some(std::os::unix::fs::MetadataExt::ino(&facts) as u32)
}

/// No namespace has it: the kernel numbers them from 0xf0000000 on.
fn nobodys_namespace() -> u32 {
    let mut number = [0u8; 4];
    let number = match random::from_kernel(&mut number) {
        Ok(()) => u32::from_ne_bytes(number),
        Err(_) => std::process::id(),
    };
    number & 0x7fff_ffff | 1
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_has_another_generation_and_a_free_lock() {
        watch();
        let before = generation();
        // SAFETY: the child only locks, compares and leaves with _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(exclusive());
            let failed = generation() == before || borrows_memory();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(failed)) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert_eq!(generation(), before);
        assert!(!borrows_memory());
    }

    #[test]
    fn who_does_not_get_the_lock_does_not_give_it_back() {
        let held = exclusive();
        let tries = || (0..3).filter(|_| try_exclusive().is_some()).count();
        assert_eq!(std::thread::scope(|scope| scope.spawn(tries).join().unwrap()), 0);
        drop(held);
        // Other tests take it, too, for a moment.
        assert!((0..1_000_000).any(|_| try_exclusive().is_some()));
    }

    #[test]
    fn signals_are_blocked_and_given_back() {
        let blocked = || {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: a null new mask only reads the old one.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), libc::SIGCHLD) == 1
            }
        };
        assert!(!blocked());
        let guard = SignalsBlocked::new();
        assert!(blocked());
        drop(guard);
        assert!(!blocked());
    }
}
