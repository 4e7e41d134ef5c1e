//! Where the LD_PRELOAD shim is: beside this program, or where it is installed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const NAME: &str = "libtktrot_preload.so";

/// Finds the shim: in the directory of this program, then in the library directories of its prefix.
///
/// # Errors
///
/// It is in none of them, or its path cannot be used in `LD_PRELOAD`.
pub fn find() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find this program (/proc/self/exe)")?;
    let bin = program.parent().unwrap_or(Path::new("/"));
    let prefix = bin.parent().unwrap_or(Path::new("/"));
    let multiarch = format!("lib/{}-linux-gnu", env::consts::ARCH);
    let dirs = [bin.to_owned(), prefix.join("lib"), prefix.join("lib64"), prefix.join(multiarch)];
    let Some(shim) = dirs.iter().map(|dir| dir.join(NAME)).find(|path| path.is_file()) else {
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        bail!("there is no {NAME} in {}: install it (make install)", dirs.join(", "));
    };
    // ld.so(8): the list is separated by spaces and colons, and nothing quotes them.
    if shim.to_string_lossy().contains([' ', ':']) {
        bail!("{}: a path in LD_PRELOAD must not contain spaces or colons", shim.display());
    }
    Ok(shim)
}
