//! A `tkt_config` as it is in a C program's memory: of any size, with any bytes in it.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::ptr;

use tktrot::capi::config::{from_c, tkt_config as Struct};

use crate::settings::is_sound;

/// Where the struct has strings.
const STRINGS: [usize; 5] = [
    offset_of!(Struct, properties),
    offset_of!(Struct, ring),
    offset_of!(Struct, dir),
    offset_of!(Struct, label),
    offset_of!(Struct, log),
];
/// As many bytes as a struct of any version has.
const LARGEST: usize = 4096;

/// Bytes of the struct, as many as its first member says; then strings, each with a NUL behind it.
/// The struct has their numbers, from 1, where pointers belong.
pub fn tkt_config(bytes: &[u8]) -> bool {
    let Some(size) = bytes.first_chunk() else { return false };
    let size = usize::from_le_bytes(*size);
    // What the caller vouches for, and not a byte more: AddressSanitizer sees who reads on. Of one
    // with a size that is none, nothing but that.
    let there = if size > LARGEST { size_of::<usize>() } else { size.max(size_of::<usize>()) };
    let (fields, texts) = bytes.split_at(there.min(bytes.len()));
    let texts: Vec<CString> = texts
        .split(|byte| *byte == 0)
        .map(|text| CString::new(text).expect("cut at every NUL"))
        .collect();
    let mut memory = vec![0_u8; there].into_boxed_slice();
    memory[..fields.len()].copy_from_slice(fields);
    for at in STRINGS {
        let Some(member) = memory.get_mut(at..at + size_of::<usize>()) else { continue };
        let number = usize::from_le_bytes(member.try_into().expect("a pointer's size"));
        let pointer: *const c_char = match number {
            0 => ptr::null(),
            number => texts[(number - 1) % texts.len()].as_ptr(),
        };
        member.copy_from_slice(&(pointer as usize).to_ne_bytes());
    }
    // SAFETY: so many bytes are there, aligned as malloc(3) aligns; the strings outlive the call.
    let taken = unsafe { from_c(memory.as_ptr().cast()) };
    match taken {
        Ok((config, _, _)) => {
            let beyond = memory.get(size_of::<Struct>()..).unwrap_or_default();
            assert!(size <= LARGEST && size.is_multiple_of(8), "of {size} bytes");
            assert!(beyond.iter().all(|byte| *byte == 0), "a later version's setting is ignored");
            is_sound(&config, config.allow_long);
            true
        }
        Err(error) => {
            assert!(!error.message.is_empty() && error.code != 0);
            false
        }
    }
}
