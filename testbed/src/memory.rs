//! Looks for secrets in the memory of processes and in core files, and keeps none itself.
//!
//! A [`Wanted`] list holds the SHA-256 of what is looked for and a filter. The filter is made of
//! the first 8 bytes of each secret, hashed with a random factor to 16 bits: a window that equals a
//! secret also begins like it, so it always passes, and only the few that pass are digested. That
//! is why the filter makes the search fast and changes nothing about what it finds.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use openssl::rand::rand_bytes;
use openssl::sha::sha256;

/// How much is read at a time.
const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;

/// The digests of what is looked for.
pub struct Wanted {
    filter: Vec<bool>,
    factor: u64,
    /// Labels by digest.
    digests: HashMap<[u8; 32], String>,
    /// Sizes of the secrets: windows of each are digested.
    sizes: Vec<usize>,
}

/// One copy of a secret.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was found, as it was called in [`Wanted::add`].
    pub label: String,
    /// The address, or the offset in a file.
    pub at: u64,
    /// The mapping that it lies in; empty for a file.
    pub mapping: Mapping,
}

/// A line of `/proc/PID/smaps`, and the flags that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// "rw-s" and the like.
    pub rights: String,
    /// The file, or "[heap]" and the like.
    pub name: String,
    /// VmFlags (proc(5)): "lo" is locked, "dd" is left out of core dumps.
    pub flags: Vec<String>,
}

impl Mapping {
    /// Whether its pages are locked and left out of core dumps.
    pub fn is_protected(&self) -> bool {
        ["lo", "dd"].iter().all(|flag| self.flags.iter().any(|have| have == flag))
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::new()
    }
}

impl Wanted {
    /// An empty list.
    pub fn new() -> Wanted {
        let mut factor = [0; 8];
        rand_bytes(&mut factor).expect("random numbers");
        Wanted {
            filter: vec![false; 1 << 16],
            factor: u64::from_le_bytes(factor) | 1,
            digests: HashMap::new(),
            sizes: Vec::new(),
        }
    }

    /// Looks for `secret` from now on, of which nothing but its digest is kept.
    ///
    /// # Panics
    ///
    /// If it has less than 8 bytes, or more than a page.
    pub fn add(&mut self, secret: &[u8], label: &str) {
        assert!((8..=PAGE).contains(&secret.len()));
        let place = self.place(secret);
        self.filter[place] = true;
        self.digests.insert(sha256(secret), label.to_owned());
        if !self.sizes.contains(&secret.len()) {
            self.sizes.push(secret.len());
        }
    }

    /// Every copy at an 8-aligned address of a readable mapping of a process. A mapping that ends
    /// or begins to exist meanwhile is none of an idle process.
    pub fn in_process(&self, pid: i32) -> Result<Vec<Found>> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut found = Vec::new();
        let mut readable = 0;
        for mapping in mappings(pid)? {
            // Time data of the kernel (vvar), and code that has no pages (vsyscall).
            let is_kernels = ["[vvar]", "[vvar_vclock]", "[vsyscall]"].contains(&&*mapping.name);
            if !mapping.rights.starts_with('r') || is_kernels {
                continue;
            }
            let size = mapping.end - mapping.start;
            let hit = |label: &str, at| {
                let (label, mapping) = (label.to_owned(), mapping.clone());
                found.push(Found { label, at, mapping });
            };
            match self.search(&memory, mapping.start, size, 8, hit) {
                Ok(()) => readable += 1,
                // The stack of a thread that ended meanwhile, say: what is not mapped holds nothing.
                Err(_) if !is_mapped(pid, &mapping)? => {}
                Err(error) => return Err(error.context(format!("process {pid}: {mapping:?}"))),
            }
        }
        ensure!(readable > 0, "process {pid} has no memory");
        Ok(found)
    }

    /// Every copy at a 4-aligned offset of a file: the registers in the notes of a core file are
    /// aligned no better.
    pub fn in_file(&self, path: &Path) -> Result<Vec<Found>> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut found = Vec::new();
        self.search(&file, 0, file.metadata()?.len(), 4, |label, at| {
            found.push(Found { label: label.to_owned(), at, mapping: Mapping::default() });
        })?;
        Ok(found)
    }

    fn search(
        &self,
        file: &File,
        start: u64,
        size: u64,
        step: usize,
        mut hit: impl FnMut(&str, u64),
    ) -> Result<()> {
        let longest = self.sizes.iter().copied().max().unwrap_or(8);
        let mut buffer = vec![0; CHUNK + longest];
        let mut done = 0;
        while done < size {
            // Into the next chunk far enough for windows that begin in this one.
            let own = CHUNK.min((size - done) as usize);
            let len = (CHUNK + longest).min((size - done) as usize);
            let bytes = &mut buffer[..len];
            file.read_exact_at(bytes, start + done)?;
            for page in (0..own).step_by(PAGE) {
                let end = own.min(page + PAGE);
                // Secrets are no zeroes, but one may begin in the last bytes of the page before.
                if bytes[page..len.min(end + longest)].iter().any(|byte| *byte != 0) {
                    self.search_page(bytes, page..end, step, |label, at| {
                        hit(label, start + done + at as u64);
                    });
                }
            }
            done += own as u64;
        }
        // What was read may be secret; this is the only copy.
        buffer.fill(0);
        std::hint::black_box(&buffer);
        Ok(())
    }

    fn search_page(
        &self,
        bytes: &[u8],
        page: std::ops::Range<usize>,
        step: usize,
        mut hit: impl FnMut(&str, usize),
    ) {
        for at in page.step_by(step) {
            let window = &bytes[at..];
            if window.len() < 8 || !self.filter[self.place(window)] {
                continue;
            }
            for size in &self.sizes {
                let secret = window.get(..*size).map(sha256);
                if let Some(label) = secret.and_then(|digest| self.digests.get(&digest)) {
                    hit(label, at);
                }
            }
        }
    }

    fn place(&self, window: &[u8]) -> usize {
        let head = u64::from_le_bytes(window[..8].try_into().expect("8 bytes"));
        (head.wrapping_mul(self.factor) >> 48) as usize
    }
}

/// All mappings of a process.
pub fn mappings(pid: i32) -> Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let Some(last) = found.last_mut() else { bail!("flags of nothing: {line}") };
            last.flags = flags.split_whitespace().map(str::to_owned).collect();
        } else if let Some(mapping) = head_of(line) {
            found.push(mapping);
        }
    }
    Ok(found)
}

/// Whether the process still has this mapping, whole.
fn is_mapped(pid: i32, mapping: &Mapping) -> Result<bool> {
    let same = |other: &Mapping| other.start == mapping.start && other.end == mapping.end;
    Ok(mappings(pid)?.iter().any(same))
}

/// "START-END RIGHTS OFFSET DEVICE INODE NAME"
fn head_of(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        rights: fields.next()?.to_owned(),
        name: fields.skip(3).collect::<Vec<_>>().join(" "),
        flags: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_found_on_stack_heap_and_across_pages_and_is_not_once_wiped() {
        let secret: Vec<u8> = (1..=32).collect();
        let mut wanted = Wanted::new();
        wanted.add(&secret.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>(), "secret");
        let me = std::process::id() as i32;

        let heap = vec![0_u64; CHUNK / 8 * 3];
        let at = heap.as_ptr() as usize;
        // A window that begins in the last 8 bytes of a page, and of nothing else.
        let across = at.next_multiple_of(PAGE) + 5 * PAGE - 8;
        let mut heap = heap;
        let offset = across - at;
        for (place, byte) in secret.iter().enumerate() {
            let word = &mut heap[(offset + place) / 8];
            *word |= u64::from(byte ^ 0x55) << (8 * ((offset + place) % 8));
        }
        let found = wanted.in_process(me).unwrap();
        assert!(found.iter().any(|found| found.at == across as u64), "{found:x?}");
        assert!(found.iter().all(|found| !found.mapping.is_protected()));
        heap.fill(0);
        std::hint::black_box(&heap);
        let found = wanted.in_process(me).unwrap();
        assert!(found.iter().all(|found| found.at != across as u64), "{found:x?}");
    }
}
