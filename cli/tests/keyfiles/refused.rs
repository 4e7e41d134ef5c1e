//! Files that cannot be taken: said with file, place and reason; nothing of them is in the ring.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use openssl::base64;
use testbed::RingDir;
use testbed::process::needs_root;

use crate::{KeyFiles, Result, fails, imported, keys, path_text, random, succeeds};

/// A ring with one imported key, and files.
struct Bench {
    rings: RingDir,
    key_files: KeyFiles,
    first: [u8; 80],
}

impl Bench {
    fn new() -> Result<Bench> {
        let (rings, key_files, first) = (RingDir::new()?, KeyFiles::new()?, random()?);
        let file = key_files.write("first.key", &first)?;
        succeeds(&rings, &["import", path_text(&file)?, "a", "--format", "nginx-80"])?;
        Ok(Bench { rings, key_files, first })
    }

    /// It is refused with these words, and the ring stays as it is.
    fn refuses(&self, file: &Path, more: &[&str], words: &[&str]) -> Result<()> {
        let before = keys(&self.rings, "a")?;
        let arguments = [&["import", path_text(file)?, "a", "--format"], more].concat();
        let said = fails(&self.rings, &arguments)?;
        let name = file.file_name().ok_or("no name")?.to_string_lossy();
        for word in words.iter().chain(&[&*name]) {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        assert_eq!(keys(&self.rings, "a")?, before, "the ring changed");
        Ok(())
    }

    fn refuses_bytes(&self, bytes: &[u8], more: &[&str], words: &[&str]) -> Result<()> {
        let file = self.key_files.write("bad.key", bytes)?;
        self.refuses(&file, more, words)
    }
}

const NGINX: &[&str] = &["nginx-80"];

#[test]
fn files_that_others_may_have_read_or_written() -> Result<()> {
    needs_root("files are given to another user");
    let bench = Bench::new()?;
    let file = bench.key_files.write("ticket.key", &random::<80>()?)?;
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601] {
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
        bench.refuses(&file, NGINX, &[&format!("mode {mode:04o}"), "chmod go="])?;
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    chown(&file, Some(12345), None)?;
    bench.refuses(&file, NGINX, &["it belongs to user 12345"])?;
    chown(&file, Some(0), None)?;
    let arguments = ["import", path_text(&file)?, "a", "--format", "nginx-80"];
    succeeds(&bench.rings, &arguments)?;
    assert_eq!(imported(&bench.rings, "a")?.len(), 2, "the same file, and nothing wrong with it");
    Ok(())
}

#[test]
fn what_is_no_regular_file() -> Result<()> {
    let bench = Bench::new()?;
    let link = bench.key_files.path("link.key");
    symlink(bench.key_files.path("first.key"), &link)?;
    bench.refuses(&link, NGINX, &["it is a symbolic link"])?;
    let directory = bench.key_files.path("directory.key");
    fs::create_dir(&directory)?;
    bench.refuses(&directory, NGINX, &["it is not a regular file"])?;
    let fifo = bench.key_files.path("fifo.key");
    assert!(Command::new("mkfifo").arg("-m600").arg(&fifo).status()?.success());
    bench.refuses(&fifo, NGINX, &["it is not a regular file"])?;
    bench.refuses(&bench.key_files.path("none.key"), NGINX, &["No such file"])?;
    Ok(())
}

#[test]
fn sizes_and_contents() -> Result<()> {
    let bench = Bench::new()?;
    let whole = random::<81>()?;
    for len in [0, 1, 16, 47, 48, 49, 79, 81] {
        let words = [&format!("it has {len} bytes, not 80")[..], "nothing was imported"];
        bench.refuses_bytes(&whole[..len], NGINX, &words)?;
    }
    bench.refuses_bytes(&vec![7; 70_000], NGINX, &["70000 bytes"])?;
    bench.refuses_bytes(&whole[..48], &["nginx-48"], &["--allow-48"])?;
    bench.refuses_bytes(&[0; 80], NGINX, &["key 1: all bytes of its name"])?;
    for (part, words) in
        [(16..48, "its secrets are not random"), (48..80, "its secrets are not random")]
    {
        let mut bytes = random::<80>()?;
        bytes[part].fill(0);
        bench.refuses_bytes(&bytes, NGINX, &["key 1", words, "nothing was imported"])?;
    }
    let mut same = random::<80>()?;
    same.copy_within(16..48, 48);
    bench.refuses_bytes(&same, NGINX, &["key 1", "the two are equal"])?;
    let mut short = random::<48>()?;
    short[32..].fill(9);
    bench.refuses_bytes(
        &short,
        &["nginx-48", "--allow-48"],
        &["key 1", "its secrets are not random"],
    )?;
    Ok(())
}

/// A good key before a bad one is not imported either.
#[test]
fn one_bad_key_among_good_ones() -> Result<()> {
    let bench = Bench::new()?;
    let good = [random::<80>()?, random::<80>()?, random::<80>()?];
    let mut weak = good;
    weak[2][16..48].fill(0);
    bench.refuses_bytes(&weak.concat(), &["raw"], &["key 3: its secrets are not random"])?;
    let mut repeats = good;
    repeats[2][..16].copy_from_slice(&good[0][..16]);
    bench.refuses_bytes(&repeats.concat(), &["raw"], &["key 3", "another key given", "key 1"])?;
    let mut repeats = good;
    repeats[1][48..].copy_from_slice(&good[0][48..]);
    bench.refuses_bytes(&repeats.concat(), &["raw"], &["key 2", "another key given"])?;
    let mut known = good;
    known[1][..16].copy_from_slice(&bench.first[..16]);
    bench.refuses_bytes(&known.concat(), &["raw"], &["key 2", "in the ring already", "a.ring"])?;

    let mut lines = good.map(|key| base64::encode_block(&key));
    lines[1].truncate(100);
    let text = lines.join("\n");
    bench.refuses_bytes(text.as_bytes(), &["haproxy"], &["line 2: it has 100 characters"])?;
    let text = good[..2].iter().map(|key| base64::encode_block(key) + "\n").collect::<String>();
    bench.refuses_bytes(text.as_bytes(), &["haproxy"], &["it has 2 lines"])?;

    // Nor is a good file that is given with a bad one.
    let file = bench.key_files.write("good.key", &good[0])?;
    let also = bench.key_files.write("also.key", &good[0])?;
    let also = path_text(&also)?;
    bench.refuses(
        &file,
        &["nginx-80", "--also", also],
        &["also.key: key 1", "another key given"],
    )?;
    bench.key_files.write("also.key", &good[1])?;
    let file = path_text(&file)?;
    succeeds(&bench.rings, &["import", file, "a", "--format", "nginx-80", "--also", also])?;
    assert_eq!(imported(&bench.rings, "a")?.len(), 3);
    Ok(())
}

#[test]
fn a_ring_that_is_not_there_is_made_only_by_name_and_only_for_good_keys() -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let good = key_files.write("good.key", &random::<80>()?)?;
    let short = key_files.write("short.key", &random::<79>()?)?;
    let weak = key_files.write("weak.key", &[7; 80])?;
    let said = fails(&rings, &["import", path_text(&good)?, "--format", "nginx-80"])?;
    assert!(said.contains("needs a name"), "{said}");
    for bad in [&short, &weak] {
        fails(&rings, &["import", path_text(bad)?, "a", "--format", "nginx-80"])?;
    }
    assert_eq!(rings.entries()?, [""; 0].map(std::path::PathBuf::from));
    let said = succeeds(&rings, &["import", path_text(&good)?, "a", "--format", "nginx-80"])?;
    let ring = rings.path().join("a.ring");
    assert!(said.contains(&format!("{}: made", ring.display())), "{said}");
    assert!(said.contains("for 2 h"), "{said}");
    Ok(())
}
