//! The other side of `struct control` in c-tests/faults/faults.c: a file that all processes of a
//! server map, in which the test says what is to fail and reads what did.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Result;

/// Where the fields lie: 32 bytes for the name, then numbers of 4.
const ERROR: u64 = 32;
const FROM: u64 = 36;
const TIMES: u64 = 40;
const ARMED: u64 = 44;
const FAILED: u64 = 52;
const SIZE: u64 = 56;

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The names under which the shim imports them, with a space between two.
    pub functions: &'static str,
    /// An errno value.
    pub error: i32,
    /// The first call that fails, of those that the shim makes while the fault is armed, in all
    /// processes of the server.
    pub from: u32,
    /// How many fail; 0 for all from there on.
    pub times: u32,
}

/// The file.
pub struct Control {
    file: File,
    path: PathBuf,
}

impl Control {
    /// Makes one, not armed yet.
    pub fn new(dir: &Path, fault: &Fault) -> Result<Control> {
        let path = dir.join("faults");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        file.set_len(SIZE)?;
        assert!(fault.functions.len() < ERROR as usize);
        file.write_all_at(fault.functions.as_bytes(), 0)?;
        for (at, value) in [(ERROR, fault.error as u32), (FROM, fault.from), (TIMES, fault.times)] {
            file.write_all_at(&value.to_ne_bytes(), at)?;
        }
        Ok(Control { file, path })
    }

    /// For the variable `FAULTS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on calls fail, or none does any more.
    pub fn arm(&self, armed: bool) -> Result<()> {
        Ok(self.file.write_all_at(&u32::from(armed).to_ne_bytes(), ARMED)?)
    }

    /// How many calls were made to fail so far.
    pub fn failed(&self) -> Result<u32> {
        let mut number = [0; 4];
        self.file.read_exact_at(&mut number, FAILED)?;
        Ok(u32::from_ne_bytes(number))
    }
}
