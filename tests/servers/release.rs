//! A release of Debian in a root directory of its own, where servers are started with the portable
//! build. tools/distributions makes them.

use std::path::{Path, PathBuf};

use testbed::artifacts;
use testbed::environment::Environment;

use crate::Result;

/// One release.
#[derive(Debug)]
pub struct Release {
    /// Its name, and that of its directory.
    pub name: &'static str,
    pub number: &'static str,
}

/// Mounts what a server needs from outside, in a mount namespace that ends with it, and becomes the
/// command in its root: ROOT, the number of directories, these, the command.
const ENTER: &str = r#"
root=$1
for place in tmp run dev/shm; do mount -t tmpfs tmpfs "$root/$place"; done
mount -t proc proc "$root/proc"
count=$2
shift 2
while [ "$count" -gt 0 ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
    count=$((count - 1))
done
exec chroot "$root" "$@"
"#;

impl Release {
    /// Its root directory.
    pub fn root(&self) -> Result<PathBuf> {
        let root = artifacts::target_dir().join("distributions").join(self.name);
        match root.is_dir() {
            true => Ok(root),
            false => Err(format!("there is no {}: make test-distributions", root.display()).into()),
        }
    }

    /// Words in front of a command that let it run there, with these directories of ours.
    pub fn launcher(&self, ours: &[&Path]) -> Result<Vec<String>> {
        let portable = artifacts::portable("tktrot")?;
        let portable = portable.parent().ok_or("a file has a directory")?;
        let mut words =
            ["unshare", "--mount", "sh", "-euc", ENTER, "sh"].map(str::to_owned).to_vec();
        words.push(self.root()?.display().to_string());
        words.push((ours.len() + 1).to_string());
        let directories = ours.iter().chain([&portable]);
        words.extend(directories.map(|directory| directory.display().to_string()));
        Ok(words)
    }

    /// What a command says that ends well there.
    pub fn says(&self, command: &[&str]) -> Result<String> {
        let mut environment = Environment::default();
        environment.launch_through(&self.launcher(&[])?);
        let output = environment.command(command[0].as_ref()).args(&command[1..]).output()?;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?.trim().to_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("{}: {command:?}: {}: {said}", self.name, output.status).into())
            }
        }
    }
}
