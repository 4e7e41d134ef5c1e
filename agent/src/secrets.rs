//! The files that hold fleet secrets: read as files of keys are, only if nobody else could have
//! read or written them.

use std::path::Path;

use anyhow::{Context, Result};
use tktrot_fleet::secret::FleetSecret;

use super::files::Files;

/// The secrets, in the order of their files. The first is used to begin a connection, the others
/// are accepted, too: so a secret is replaced without a gap.
///
/// # Errors
///
/// A file cannot be read, others have rights to it, or it holds no secret.
pub fn read<P: AsRef<Path>>(paths: &[P], files: &Files) -> Result<Vec<FleetSecret>> {
    paths.iter().map(|path| read_one(path.as_ref(), files)).collect()
}

/// The secret in one file.
///
/// # Errors
///
/// As for [`read`].
pub fn read_one(file: &Path, files: &Files) -> Result<FleetSecret> {
    let text = files.private(file)?;
    FleetSecret::parse(&text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use testbed::RingDir;

    use super::*;

    #[test]
    fn secrets_are_read_in_their_order_and_only_from_files_of_ours_alone() {
        let dir = RingDir::new().unwrap();
        let write = |name: &str| {
            let file = dir.path().join(name);
            fs::write(&file, &*FleetSecret::generate().unwrap()).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            file
        };
        let (old, new) = (write("old"), write("new"));
        let identity = |secret: &FleetSecret| secret.mesh().unwrap().identity;
        let identities = |files: &[_]| {
            read(files, &Files::default()).unwrap().iter().map(identity).collect::<Vec<_>>()
        };
        let both = identities(&[old.clone(), new.clone()]);
        assert_eq!(
            both,
            [identities(std::slice::from_ref(&old)), identities(std::slice::from_ref(&new))]
                .concat()
        );
        assert_ne!(both[0], both[1]);

        fs::set_permissions(&new, Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", read(&[&old, &new], &Files::default()).err().unwrap());
        assert!(error.contains("new: others have rights to it (mode 0640)"), "{error}");
        fs::write(&old, "0000\n").unwrap();
        let error = format!("{:#}", read(&[&old], &Files::default()).err().unwrap());
        assert!(error.contains("old: it holds 2 bytes"), "{error}");
    }
}
