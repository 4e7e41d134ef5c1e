//! What an operator sees of an entry.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use tktrot_keyfile::files::Format;

/// How an entry stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportStatus {
    pub format: Format,
    pub output: PathBuf,
    /// How many keys are in the files.
    pub keys: usize,
    /// The key with which the server encrypts, or will at the time that is in its file: the first
    /// half of its name.
    pub encrypts: Option<String>,
    /// When the files were written last, in seconds since 1970.
    pub written: Option<u64>,
    /// Whether the server has what it is to have.
    pub current: bool,
    /// Why not.
    pub error: Option<String>,
    /// How many times in a row it failed.
    pub failures: u32,
    /// The last line that the command said.
    pub said: Option<String>,
}

impl ExportStatus {
    pub(crate) fn new(format: Format, output: PathBuf) -> ExportStatus {
        ExportStatus {
            format,
            output,
            keys: 0,
            encrypts: None,
            written: None,
            current: false,
            error: None,
            failures: 0,
            said: None,
        }
    }
}

/// Where the exporter says how its entries stand.
#[derive(Clone, Debug)]
pub struct StatusHandle(pub(super) Rc<RefCell<Vec<ExportStatus>>>);

impl StatusHandle {
    /// How each entry stands now, in their order.
    pub fn get(&self) -> Vec<ExportStatus> {
        self.0.borrow().clone()
    }
}
