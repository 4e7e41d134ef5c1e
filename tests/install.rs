//! `make install` gives a C program all that it needs, and all versions agree.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use testbed::{artifacts, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[test]
fn a_program_is_built_and_runs_with_what_is_installed() -> Result<()> {
    let root = tempfile::tempdir()?;
    let prefix = root.path().join("usr");
    // What the tests have built already, as if it had been built for this.
    let built = root.path().join("built");
    fs::create_dir(&built)?;
    for file in [artifacts::library()?, artifacts::shim()?, artifacts::tktrot()?] {
        symlink(file, built.join(file.file_name().ok_or("a name")?))?;
    }
    symlink(artifacts::library()?.with_extension("a"), built.join("libtktrot.a"))?;
    let made = Command::new("sh")
        .args(["-c", "umask 077; exec make \"$@\"", "make"])
        .args(["--silent", "install", "CARGO=true"])
        .args([format!("RELEASE={}", built.display()), format!("PREFIX={}", prefix.display())])
        .current_dir(artifacts::root())
        // Under `make test` these would make this make look for the outer one's job server.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()?;
    assert!(made.status.success(), "make install: {}\n{}", made.status, log::said(&made));
    let lib = prefix.join("lib");
    for name in ["libtktrot.so.0", "libtktrot.a", "libtktrot_preload.so"] {
        assert!(lib.join(name).is_file(), "{name} is not installed");
    }
    assert_eq!(
        fs::read_link(lib.join("libtktrot.so.0"))?,
        Path::new(&format!("libtktrot.so.{VERSION}"))
    );

    let tktrot = prefix.join("bin/tktrot");
    assert_eq!(output(Command::new(&tktrot).arg("--version"))?, format!("tktrot {VERSION}"));
    // It finds the shim that was installed with it.
    let preloaded = ["run", "--", "/bin/sh", "-c", "echo $LD_PRELOAD"];
    let preloaded = output(Command::new(&tktrot).args(preloaded).env_remove("LD_PRELOAD"))?;
    assert_eq!(Path::new(&preloaded), lib.join("libtktrot_preload.so"));
    for page in
        ["tktrot.1", "tktrot-run.1", "tktrot-revoke.1", "tktrot-ring-remove.1", "tktrot-agent.1"]
    {
        let page = fs::read_to_string(prefix.join("share/man/man1").join(page))?;
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    // Everybody, too, where root's umask is strict.
    for file in [
        "share/man/man1/tktrot.1",
        "share/bash-completion/completions/tktrot",
        "share/zsh/site-functions/_tktrot",
        "share/fish/vendor_completions.d/tktrot.fish",
        "lib/pkgconfig/tktrot.pc",
        "lib/systemd/system/tktrot-agent.service",
        "lib/systemd/system/tktrot-agent@.service",
    ] {
        let mode = fs::metadata(prefix.join(file))?.permissions().mode() & 0o777;
        assert_eq!(format!("{mode:o}"), "644", "{file}");
    }
    let bash = prefix.join("share/bash-completion/completions/tktrot");
    output(Command::new("bash").arg("-c").arg(format!(
        "set -eu; . {}; COMP_WORDS=(tktrot rev); COMP_CWORD=1; _tktrot tktrot rev tktrot; \
         [ \"${{COMPREPLY[*]}}\" = revoke ]",
        bash.display()
    )))?;

    for (unit, settings) in [("tktrot-agent", "tktrot"), ("tktrot-agent@", "%i")] {
        let unit = lib.join(format!("systemd/system/{unit}.service"));
        is_a_hardened_unit(&unit)?;
        let text = fs::read_to_string(&unit)?;
        let starts = format!(
            "ExecStart={}/bin/tktrot --config /etc/tktrot/{settings}.toml agent\n",
            prefix.display()
        );
        assert!(text.contains(&starts) && !text.contains("@SETTINGS@"), "{text}");
    }
    let user = lib.join("sysusers.d/tktrot.conf");
    let would_make = Command::new("systemd-sysusers").arg("--dry-run").arg(user).output()?;
    assert!(log::said(&would_make).contains("Creating user 'tktrot'"), "{would_make:?}");

    let pkg_config = |question: &str| {
        let path = lib.join("pkgconfig");
        output(Command::new("pkg-config").args([question, "tktrot"]).env("PKG_CONFIG_PATH", path))
    };
    assert_eq!(pkg_config("--modversion")?, VERSION);

    let source = root.path().join("program.c");
    let program = root.path().join("program");
    fs::write(
        &source,
        "#include <stdio.h>\n#include <string.h>\n#include <tktrot.h>\n\
         int main(void) { puts(tkt_version()); return strcmp(tkt_version(), TKT_VERSION) != 0; }\n",
    )?;
    output(
        Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &source])
            .args(pkg_config("--cflags")?.split_whitespace())
            .args(pkg_config("--libs")?.split_whitespace()),
    )?;
    assert_eq!(output(Command::new(&program).env("LD_LIBRARY_PATH", &lib))?, VERSION);
    Ok(())
}

/// systemd understands the agent's unit, and finds little that it leaves open.
fn is_a_hardened_unit(unit: &Path) -> Result<()> {
    let verified =
        Command::new("systemd-analyze").args(["--man=no", "verify"]).arg(unit).output()?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // It also reads units of this host, of which it may have something to say.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("tktrot")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let judged = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=30"])
        .arg(unit)
        .output()?;
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    Ok(())
}
