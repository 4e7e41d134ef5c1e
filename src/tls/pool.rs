//! A callback function for each context. The callback that runs is that of
//! the context given to `SSL_new`, and libssl has no getter for that one: so
//! which function runs is what tells it.

use std::ffi::{c_int, c_uchar};

use openssl_sys::{EVP_CIPHER_CTX, HMAC_CTX, SSL};

use super::api::{EvpCallback, EvpMacCtx, HmacCallback};
use super::attachment::{COLUMNS, ROWS, tenant};
use super::{evp, hmac};

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
    use crate::tls::attachment::PLACES;

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
