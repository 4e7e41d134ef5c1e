//! A callback function for each context. The callback that runs is that of
//! the context given to `SSL_new`, and libssl has no getter for that one: so
//! which function runs is what tells it.

use std::ffi::{c_int, c_uchar};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use openssl_sys::{EVP_CIPHER_CTX, HMAC_CTX, SSL};

use super::api::{EvpCallback, EvpMacCtx, HmacCallback};
use super::attachment::Attachment;
use super::{evp, hmac};

/// How many places there are.
pub const PLACES: usize = ROWS * COLUMNS;
const ROWS: usize = 32;
const COLUMNS: usize = 32;
/// How many of them are for one context each. When they are used up, contexts
/// that are alike share one of the others.
pub const OF_ONE: usize = PLACES - 32;

static TENANTS: [AtomicPtr<Attachment>; PLACES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];

/// What is attached at a place.
///
/// # Safety
///
/// Only from a callback of that place, and for no longer than it: a callback
/// runs while a connection of the context lives, which keeps the context, and
/// with it everything that was ever attached to it.
unsafe fn tenant<'c>(place: usize) -> Option<&'c Attachment> {
    // SAFETY: null, or an attachment that lives as long as the context (see
    // above). Acquire pairs with the Release in `seat`.
    unsafe { TENANTS[place].load(Ordering::Acquire).as_ref() }
}

/// The first attachment with that property. The caller holds
/// [`crate::process::exclusive`], which keeps attachments from being freed, as
/// long as it uses the result.
pub fn find<'l>(is_it: impl Fn(&Attachment) -> bool) -> Option<&'l Attachment> {
    // SAFETY: null, or an attachment that is freed only under the lock.
    let seated =
        |tenant: &AtomicPtr<Attachment>| unsafe { tenant.load(Ordering::Acquire).as_ref() };
    TENANTS.iter().filter_map(seated).find(|attachment| is_it(attachment))
}

/// True if that is what serves at a place. The caller holds
/// [`crate::process::exclusive`] if the answer is to last.
pub fn is_seated(place: usize, attachment: *const Attachment) -> bool {
    let seated = TENANTS.get(place).map(|tenant| tenant.load(Ordering::Acquire).cast_const());
    seated == Some(attachment)
}

/// A free place for one context. The caller holds [`crate::process::exclusive`].
pub fn vacant() -> Option<usize> {
    vacant_in(0..OF_ONE)
}

/// A free place for contexts that are alike. The caller holds
/// [`crate::process::exclusive`].
pub fn vacant_for_several() -> Option<usize> {
    vacant_in(OF_ONE..PLACES)
}

fn vacant_in(mut places: Range<usize>) -> Option<usize> {
    places.find(|place| TENANTS[*place].load(Ordering::Relaxed).is_null())
}

/// Puts an attachment at a place, or null to vacate it. The caller holds
/// [`crate::process::exclusive`], and owns the place.
pub fn seat(place: usize, attachment: *mut Attachment) {
    TENANTS[place].store(attachment, Ordering::Release);
}

/// The EVP form of a place's callback.
pub fn evp_callback(place: usize) -> EvpCallback {
    static CALLBACKS: [[EvpCallback; COLUMNS]; ROWS] = rows!(evp_row);
    CALLBACKS[place / COLUMNS][place % COLUMNS]
}

/// The HMAC form of a place's callback.
pub fn hmac_callback(place: usize) -> HmacCallback {
    static CALLBACKS: [[HmacCallback; COLUMNS]; ROWS] = rows!(hmac_row);
    CALLBACKS[place / COLUMNS][place % COLUMNS]
}

unsafe extern "C" fn evp_thunk<const ROW: usize, const COLUMN: usize>(
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EvpMacCtx,
    enc: c_int,
) -> c_int {
    // SAFETY: in the callback of this place, called with what its contract says.
    unsafe {
        let attachment = tenant(ROW * COLUMNS + COLUMN);
        attachment.map_or(0, |attachment| evp::answer(attachment, ssl, name, iv, cipher, mac, enc))
    }
}

unsafe extern "C" fn hmac_thunk<const ROW: usize, const COLUMN: usize>(
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut HMAC_CTX,
    enc: c_int,
) -> c_int {
    // SAFETY: as in `evp_thunk`.
    unsafe {
        let attachment = tenant(ROW * COLUMNS + COLUMN);
        attachment.map_or(0, |attachment| hmac::answer(attachment, ssl, name, iv, cipher, mac, enc))
    }
}

const fn evp_row<const ROW: usize>() -> [EvpCallback; COLUMNS] {
    columns!(evp_thunk, ROW)
}

const fn hmac_row<const ROW: usize>() -> [HmacCallback; COLUMNS] {
    columns!(hmac_thunk, ROW)
}

macro_rules! columns {
    ($thunk:ident, $row:ident) => {
        columns!(@ $thunk, $row,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@ $thunk:ident, $row:ident, $($column:literal)*) => { [$(Some($thunk::<$row, $column>),)*] };
}
use columns;

macro_rules! rows {
    ($row:ident) => {
        rows!(@ $row,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@ $row:ident, $($number:literal)*) => { [$($row::<$number>(),)*] };
}
use rows;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_place_has_two_functions_of_its_own() {
        let evp: HashSet<_> =
            (0..PLACES).map(|place| evp_callback(place).unwrap() as usize).collect();
        let hmac: HashSet<_> =
            (0..PLACES).map(|place| hmac_callback(place).unwrap() as usize).collect();
        assert_eq!((evp.len(), hmac.len()), (PLACES, PLACES));
        assert!(evp.is_disjoint(&hmac));
    }
}
