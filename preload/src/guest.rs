//! We are guests in somebody else's process: whether we are wanted here, with
//! which settings, what happens when they cannot be met, and how the server's thread
//! stays as it was.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use once_cell::race::OnceBox;
use tktrot::config::{Config, Upkeep};
use tktrot::log::{Destination, OnceOnly};
use tktrot::rotate::Keyring;
use tktrot::tls::error_queue::Mark;
use tktrot::tls::primed;
use tktrot::tls::resolve::Library;
use tktrot::unnoticed::Unnoticed;
use tktrot::{error, keyrings, log, process, program, upkeep, warning};

/// `EX_CONFIG` of sysexits.h: how strict mode ends a server.
const EX_CONFIG: libc::c_int = 78;

/// The settings of this process, read at its first SSL_CTX and kept: servers
/// empty their environment and drop their privileges later.
pub struct Guest {
    /// What the environment says.
    pub config: Config,
    /// A leaked one, or null.
    keyring: AtomicPtr<Keyring>,
    /// Keys could not be had when a context was made, or its library was not known.
    in_vain: AtomicBool,
    /// A connection was about to be made: the server's start is over.
    in_service: AtomicBool,
}

static GUEST: OnceBox<Option<Guest>> = OnceBox::new();

/// The guest, or `None` where we are not wanted.
pub fn guest() -> Option<&'static Guest> {
    if let Some(guest) = GUEST.get() {
        return guest.as_ref();
    }
    process::watch();
    let _lock = process::exclusive();
    GUEST.get_or_init(|| Box::new(Guest::arrive())).as_ref()
}

/// This process is about to give up the right to make threads: if it has keys,
/// theirs starts now. Other threads of it wait meanwhile, and give it up after.
pub fn last_chance_for_threads() {
    // The child of a call that ran no fork handlers may find the lock taken.
    if process::borrows_memory() {
        return;
    }
    let Some(guest) = GUEST.get().and_then(Option::as_ref) else { return };
    let Some(keyring) = guest.known_keyring() else { return };
    if guest.config.upkeep == Upkeep::Thread {
        let _lock = process::exclusive();
        upkeep::start_early(keyring, primed::sweep);
    }
}

/// This process is about to confine itself by a filter of system calls: see
/// [`upkeep::leave`].
pub fn last_chance_for_calls() {
    if process::borrows_memory() {
        return;
    }
    let guest = GUEST.get().and_then(Option::as_ref);
    let has_keys = guest.filter(|guest| guest.known_keyring().is_some());
    upkeep::leave(has_keys.is_some_and(|guest| guest.config.upkeep == Upkeep::Thread));
}

impl Guest {
    fn arrive() -> Option<Self> {
        let (config, problems) = Config::from_env();
        if config.disabled || !program::names().iter().any(|name| config.is_meant_for(name)) {
            return None;
        }
        process::filters_are_seen();
        let opened = log::open(&config.log);
        let guest = Guest {
            config,
            keyring: AtomicPtr::new(ptr::null_mut()),
            in_vain: AtomicBool::new(false),
            in_service: AtomicBool::new(false),
        };
        if let (Err(error), Destination::File(path)) = (opened, &guest.config.log) {
            guest.problem(&format!(
                "TKTROT_LOG={} cannot be opened: {error}; stderr is used",
                path.display()
            ));
        }
        for problem in problems {
            guest.stop_if_strict(&problem);
            warning!("{}", problem.worked_around());
        }
        Some(guest)
    }

    /// The keys for a context that is used: those that there are, for a worker
    /// must not come to have a ring of its own where the master had none.
    pub fn keyring_at_use(&self, library: &'static Library) -> Option<&'static Keyring> {
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        let known = self.known_keyring();
        if in_vain || known.is_some() { known } else { self.keyring(library) }
    }

    /// The keys of this process; opened at the first call, with the privileges
    /// of that moment, and again after the ring's file was removed: a server that reloads
    /// makes its contexts anew. `None` if there is no way to have any.
    pub fn keyring(&self, library: &'static Library) -> Option<&'static Keyring> {
        let known = self.known_keyring();
        if known.is_some_and(|keyring| !keyring.ring().lost_its_file()) {
            return known;
        }
        match keyrings::open(&self.config, library) {
            Ok(opened) => {
                if let Some(problem) = opened.problems.first() {
                    self.stop_if_strict(problem);
                }
                // Another thread opened the same one, if any.
                self.keyring.store(ptr::from_ref(opened.keyring).cast_mut(), Ordering::Release);
                self.in_vain.store(false, Ordering::Relaxed);
                Some(opened.keyring)
            }
            Err(problem) => {
                static SAID: OnceOnly = OnceOnly::new();
                self.has_no_keys(&problem, &SAID);
                None
            }
        }
    }

    /// There is a TLS library without keys of ours, which is told once.
    pub fn library_is_unknown(&self) {
        static SAID: OnceOnly = OnceOnly::new();
        let problem = "cannot determine which TLS library this is (dladdr, dlopen)";
        self.has_no_keys(&problem, &SAID);
    }

    /// A context gets no keys of ours; each such problem is told once.
    fn has_no_keys(&self, problem: &dyn fmt::Display, said: &OnceOnly) {
        self.in_vain.store(true, Ordering::Relaxed);
        self.stop_if_strict(problem);
        if said.first() {
            error!("{problem}; the server's own ticket keys stay");
        }
    }

    /// Tells a problem that was worked around; strict mode stops here.
    fn problem(&self, problem: &dyn fmt::Display) {
        self.stop_if_strict(problem);
        warning!("{problem}");
    }

    /// The keys of this process, if it has any by now.
    pub fn known_keyring(&self) -> Option<&'static Keyring> {
        // SAFETY: null or a leaked Keyring, which was complete before it was stored
        // (Release in `keyring`).
        unsafe { self.keyring.load(Ordering::Acquire).as_ref() }
    }

    /// From now on nothing stops the server, whatever happens.
    pub fn goes_into_service(&self) {
        if !self.in_service.load(Ordering::Relaxed) {
            self.in_service.store(true, Ordering::Relaxed);
        }
    }

    /// Strict mode: the server does not start with a problem.
    pub fn stop_if_strict(&self, problem: &dyn fmt::Display) {
        if self.config.strict && !self.in_service.load(Ordering::Relaxed) {
            log::last_words(format_args!("{problem} (TKTROT_STRICT=1 stops the server here)"));
            // SAFETY: ends the process without running handlers of a server
            // that is half started.
            unsafe { libc::_exit(EX_CONFIG) };
        }
    }
}

/// Does something of ours on the server's thread, and leaves that as it was, the
/// library's error queue included.
pub fn unnoticed<T>(library: &Library, otherwise: T, ours: impl FnOnce() -> T) -> T {
    shielded(otherwise, || {
        let _mark = Mark::set(&library.api);
        ours()
    })
}

/// Keeps a panic of ours away from the server, and leaves its thread as it was.
pub fn shielded<T>(otherwise: T, ours: impl FnOnce() -> T) -> T {
    let _unnoticed = Unnoticed::begin();
    catch_unwind(AssertUnwindSafe(ours)).unwrap_or(otherwise)
}
