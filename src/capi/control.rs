//! `tkt_rotate`, `tkt_revoke`, `tkt_upkeep`, `tkt_stats`.

use std::ffi::c_int;

use openssl_sys::SSL_CTX;

use super::error::{
    Error, TKT_ERR_ARGUMENT, TKT_ERR_BUSY, TKT_ERR_FULL, TKT_ERR_GENERATOR, TKT_ERR_INTERNAL,
    TKT_ERR_NOT_INSTALLED, TKT_OK, guard,
};
use crate::clock::{BootClock, Clock, Time};
use crate::keyrings;
use crate::ring::stats::Counter;
use crate::rotate::{Failure, Generator, Keyring};
use crate::tls::api::TlsApi;
use crate::tls::resolve::{self, Library};
use crate::tls::{attach, error_queue, primed};

/// What has been counted on a ring, over all its processes since it was made,
/// and what its schedule is. Durations are seconds.
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct tkt_counters {
    /// `sizeof(tkt_counters)`, so that the struct can grow.
    pub size: usize,
    /// Tickets sealed.
    pub issued: u64,
    /// Tickets opened with the active key; `not_resumed` of these and the next
    /// were not resumed.
    pub resumed_active: u64,
    /// Tickets opened with a retired key.
    pub resumed_retired: u64,
    /// Tickets whose key name is not in the ring.
    pub unknown: u64,
    /// Tickets whose key had expired.
    pub expired: u64,
    /// Tickets that turned out to be of another scope.
    pub wrong_scope: u64,
    /// Calls into the TLS library that failed.
    pub errors: u64,
    /// Handshakes that went on without a ticket that can be resumed.
    pub unsealed: u64,
    /// Keys made.
    pub rotations: u64,
    /// Failures of the random number generator.
    pub generator_failures: u64,
    /// Writers that died while they held the lock; the next one repaired the ring.
    pub repairs: u64,
    /// Seconds that a key encrypts.
    pub rotate_every: u64,
    /// Seconds that a key decrypts after that.
    pub lifetime: u64,
    /// Keys that the ring holds at most.
    pub capacity: u64,
    /// Connections for which tickets are switched off (SSL_OP_NO_TICKET).
    pub tickets_off: u64,
    /// Connections whose TLS 1.3 tickets are the TLS library's own, because
    /// early data is on without SSL_OP_NO_ANTI_REPLAY.
    pub anti_replay: u64,
    /// Always 0: QUIC listeners are served.
    pub quic: u64,
    /// Contexts that keep their own ticket keys.
    pub left_alone: u64,
    /// Tickets that were opened, and that the TLS library then did not resume:
    /// its session id context differs, the session has expired, or the ticket is
    /// bound to another scope.
    pub not_resumed: u64,
}

/// Makes a new key that encrypts from now on, in every process of the ring
/// that `ctx` uses. Tickets of the old key still resume.
///
/// Thread-safe; may wait for another writer, two seconds at most.
///
/// Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`,
/// `TKT_ERR_BUSY`, `TKT_ERR_GENERATOR`, `TKT_ERR_FULL`.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_rotate(ctx: *mut SSL_CTX) -> c_int {
    // SAFETY: passed on from the caller.
    guard(|| unsafe { done(steer("tkt_rotate", ctx, Keyring::rotate_with)?) })
}

/// Erases every key of the ring that `ctx` uses, in every process at once: no
/// ticket issued before resumes. New keys take over. If `tktrot agent` governs
/// the ring, it ends the keys on the other hosts of its fleet, too.
///
/// Thread-safe; may wait for another writer, two seconds at most.
///
/// Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`,
/// `TKT_ERR_BUSY` (nothing is erased), `TKT_ERR_GENERATOR` (the old keys are
/// erased, and no tickets are issued until the generator works again).
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_revoke(ctx: *mut SSL_CTX) -> c_int {
    // SAFETY: passed on from the caller.
    guard(|| unsafe { done(steer("tkt_revoke", ctx, Keyring::revoke_with)?) })
}

/// Rotates and erases what is due in all rings of this process: for event
/// loops that forbid threads (`TKT_UPKEEP_CALLBACK`).
///
/// Returns the milliseconds until it wants to be called again, at most a day;
/// calling it earlier or later is harmless. Or `TKT_ERR_INTERNAL`.
///
/// Thread-safe; may wait for another writer, two seconds at most.
#[unsafe(no_mangle)]
pub extern "C" fn tkt_upkeep() -> c_int {
    guard(|| {
        const DAY: u128 = 24 * 3600 * 1000;
        // Two tables may be of one library, whose queue has one mark.
        let mut tables: Vec<_> = resolve::all().map(|library| &library.api).collect();
        let queue = |api: &&TlsApi| api.err_set_mark.map_or(0, |function| function as usize);
        tables.sort_by_key(queue);
        tables.dedup_by_key(|api| queue(api));
        let _marks: Vec<_> = tables.into_iter().map(error_queue::Mark::set).collect();
        let deadline = keyrings::all().map(Keyring::tick_patiently).min().unwrap_or(Time::NEVER);
        let deadline = deadline.min(primed::sweep_patiently(BootClock.now()));
        let wait = BootClock.now().until(deadline).as_nanos().div_ceil(1_000_000).min(DAY);
        c_int::try_from(wait).map_err(|_| {
            Error::new(
                TKT_ERR_INTERNAL,
                "tkt_upkeep: the time until the next call does not fit an int",
            )
        })
    })
}

/// Fills `counters` for the ring that `ctx` uses. `counters->size` tells how
/// much of the struct the caller knows; set it to `sizeof(tkt_counters)`.
///
/// Takes no lock of the ring. Thread-safe.
///
/// Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`; `counters` is
/// written only on success.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX; `counters` is NULL or valid for
/// `counters->size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkt_stats(ctx: *mut SSL_CTX, counters: *mut tkt_counters) -> c_int {
    guard(|| {
        // SAFETY: not NULL, so the caller vouches for it; the size is its first member.
        let size = if counters.is_null() { 0 } else { unsafe { counters.cast::<usize>().read() } };
        if !(size_of::<usize>()..=4096).contains(&size) {
            let text = "tkt_stats: counters is NULL or its size is not set; set it to sizeof(tkt_counters)";
            return Err(Error::new(TKT_ERR_ARGUMENT, text));
        }
        // SAFETY: passed on from the caller.
        let mut facts = facts_of(unsafe { attached("tkt_stats", ctx) }?.1);
        let known = size.min(size_of::<tkt_counters>());
        facts.size = known;
        // SAFETY: `known` bytes are in both.
        unsafe {
            let from = (&raw const facts).cast::<u8>();
            std::ptr::copy_nonoverlapping(from, counters.cast::<u8>(), known);
        }
        Ok(TKT_OK)
    })
}

fn facts_of(keyring: &Keyring) -> tkt_counters {
    let ring = keyring.ring();
    let totals = ring.totals();
    let policy = keyring.policy();
    tkt_counters {
        size: size_of::<tkt_counters>(),
        issued: totals.of(Counter::Issued),
        resumed_active: totals.of(Counter::ResumedActive),
        resumed_retired: totals.of(Counter::ResumedRetired),
        unknown: totals.of(Counter::Unknown),
        expired: totals.of(Counter::Expired),
        wrong_scope: totals.of(Counter::WrongScope),
        errors: totals.of(Counter::Errors),
        unsealed: totals.of(Counter::Unsealed),
        rotations: ring.rotations(),
        generator_failures: ring.generator_failures(),
        repairs: ring.repairs(),
        rotate_every: policy.rotate_every.as_secs(),
        lifetime: policy.lifetime.as_secs(),
        capacity: ring.capacity().into(),
        tickets_off: totals.of(Counter::TicketsOff),
        anti_replay: totals.of(Counter::AntiReplay),
        quic: 0,
        left_alone: totals.of(Counter::LeftAlone),
        not_resumed: totals.of(Counter::Refused),
    }
}

/// The library and the keys of a context.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX.
unsafe fn attached(
    function: &str,
    ctx: *mut SSL_CTX,
) -> Result<(&'static Library, &'static Keyring), Error> {
    if ctx.is_null() {
        return Err(Error::new(TKT_ERR_ARGUMENT, format!("{function}: ctx is NULL")));
    }
    let missing = || Error::new(TKT_ERR_NOT_INSTALLED, format!("{function}: ctx is not attached"));
    // SAFETY: the caller vouches for `ctx`.
    unsafe { attach::attached(ctx) }.ok_or_else(missing)
}

/// Does something to the keys of a context, with random numbers from where it
/// has its own. What is kept of keys that are no more goes with them.
///
/// # Safety
///
/// `ctx` is NULL or a live SSL_CTX.
unsafe fn steer(
    function: &str,
    ctx: *mut SSL_CTX,
    act: impl FnOnce(&Keyring, &dyn Generator) -> Result<(), Failure>,
) -> Result<Result<(), Failure>, Error> {
    // SAFETY: passed on from the caller; what serves the context lives as long.
    let (library, keyring, generator) = unsafe {
        let (library, keyring) = attached(function, ctx)?;
        (library, keyring, attach::attachment(library, ctx))
    };
    let _mark = error_queue::Mark::set(&library.api);
    let generator: &dyn Generator = match generator {
        Some(attachment) => attachment,
        None => library,
    };
    let result = act(keyring, generator);
    primed::sweep_patiently(BootClock.now());
    Ok(result)
}

fn done(result: Result<(), Failure>) -> Result<c_int, Error> {
    let error = match result {
        Ok(()) => return Ok(TKT_OK),
        Err(failure @ (Failure::Lock(_) | Failure::NotNow)) => {
            Error::new(TKT_ERR_BUSY, failure.to_string())
        }
        Err(Failure::Generator) => {
            Error::new(TKT_ERR_GENERATOR, "the TLS library's random number generator failed")
        }
        Err(failure @ (Failure::Full | Failure::NoMemory)) => {
            Error::new(TKT_ERR_FULL, failure.to_string())
        }
        Err(failure @ Failure::Clock) => Error::new(TKT_ERR_INTERNAL, failure.to_string()),
    };
    Err(error)
}
