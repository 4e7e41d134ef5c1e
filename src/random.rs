//! Random bytes from the kernel, for what needs them before there is a TLS library, or when its
//! generator fails.

use std::io;

/// Fills `bytes`, at most 256 of them, or fails (getrandom(2)): so few come whole.
///
/// By number and not through the C library, which has had a function for it since glibc 2.25 only: a
/// library that asks for that would not load with older ones.
pub fn from_kernel(bytes: &mut [u8]) -> io::Result<()> {
    let (at, len) = (bytes.as_mut_ptr(), bytes.len());
    // SAFETY: the buffer is valid for its length, and the call writes nothing beyond.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, at, len, 0) };
    if usize::try_from(got) == Ok(len) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_drafts_differ() {
        let mut drafts = [[0; 32]; 2];
        for draft in &mut drafts {
            from_kernel(draft).unwrap();
        }
        assert_ne!(drafts[0], drafts[1]);
        assert!(!drafts.contains(&[0; 32]));
    }
}
