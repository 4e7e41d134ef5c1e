//! `tktrot run`, `tktrot check` and `tktrot config check`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use testbed::client::{Client, TlsVersion};
use testbed::haproxy::{self, Haproxy, Mode};
use testbed::nginx::{self, Nginx};
use testbed::process::needs_root;
use testbed::{RingDir, artifacts, log, wait};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn tktrot() -> Result<Command> {
    let mut command = Command::new(artifacts::tktrot()?);
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    Ok(command)
}

fn says(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), log::said(output))
}

/// A process that is ended with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command line of an nginx in the foreground and its listener, prepared and not started.
fn prepared() -> Result<(Nginx, Vec<String>)> {
    let nginx = Nginx::builder().main("daemon off;").main("master_process off;").prepare()?;
    let dir = nginx.dir().display().to_string();
    let line = [nginx::BINARY, "-p", &dir, "-e", "error.log", "-c", "nginx.conf"];
    Ok((nginx, line.map(str::to_owned).to_vec()))
}

/// Tickets of one life of nginx open in the next one, in the ring that was asked for.
#[test]
fn run_starts_a_server_whose_tickets_survive_it() -> Result {
    let rings = RingDir::new()?;
    let (nginx, line) = prepared()?;
    let settings = rings.path().join("settings.toml");
    // The command line goes over the file.
    fs::write(&settings, format!("dir = {:?}\nring = \"file\"\nrotate = \"1h\"\n", rings.path()))?;
    let client = Client::new(TlsVersion::V13)?;
    let mut held = None;
    for life in 0..2 {
        let mut command = tktrot()?;
        command.arg("--config").arg(&settings).args(["run", "--ring", "web", "--strict", "--"]);
        let child = command.args(&line).stdout(Stdio::null()).spawn()?;
        let _running = Running(child);
        let full = wait::until(wait::PATIENCE, "nginx under tktrot run", || {
            client.connect(nginx.addr(), None, held.as_ref()).ok()
        })?;
        assert_eq!(full.resumed, life == 1);
        held = full.tickets.last().cloned();
        assert!(held.is_some());
    }
    assert_eq!(rings.rings()?, [rings.path().join("web.ring")]);
    Ok(())
}

#[test]
fn run_says_what_it_cannot_do() -> Result {
    for (arguments, status, part) in [
        (
            &["run", "--rotate", "soon", "--", "true"][..],
            64,
            "--rotate \"soon\" cannot be used; accepted: 1s to 24h",
        ),
        (
            &["run", "--rotate", "0", "--bind", "foo", "true"],
            64,
            "--bind \"foo\" cannot be used; accepted: none, or some of cert,verify,sni",
        ),
        (
            &["run", "--rotate", "0", "--bind", "foo", "true"],
            64,
            "--rotate \"0\" cannot be used; accepted: 1s to 24h",
        ),
        (
            &["run", "--lifetime", "8d", "true"],
            0,
            "--lifetime \"8d\" cannot be used; accepted: 1s to 7d, such as 30s, 10m or 1h; 7d applies",
        ),
        (&["run", "--rotat", "1h", "true"], 64, "a similar argument exists: '--rotate'"),
        (&["run", "--", "/no/such/server"], 2, "/no/such/server: cannot be run: No such file"),
        // What follows the program is for it.
        (&["run", "sh", "-c", "echo $0 $*", "--rotate", "0"], 0, "--rotate 0"),
        (&["run"], 64, "required arguments were not provided"),
    ] {
        let (seen, said) = says(&tktrot()?.args(arguments).output()?);
        assert_eq!(seen, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    let mut command = tktrot()?;
    command.env("TKTROT_LOG", "here").args(["run", "--rotate", "0", "true"]);
    let (status, said) = says(&command.output()?);
    assert_eq!((status, said.lines().count()), (Some(64), 2), "{said}");
    for part in ["--rotate \"0\" cannot be used", "TKTROT_LOG=\"here\" cannot be used"] {
        assert!(said.contains(part), "{said}");
    }
    // Without the shim there is nothing to run under. A link, not a copy: what is open for writing
    // cannot be executed, and a process that another test starts may hold it open for a moment.
    let alone = tempfile::tempdir_in(artifacts::target_dir())?;
    let elsewhere = alone.path().join("bin/tktrot");
    fs::create_dir(alone.path().join("bin"))?;
    fs::hard_link(artifacts::tktrot()?, &elsewhere)?;
    let (status, said) = says(&Command::new(&elsewhere).args(["run", "--", "true"]).output()?);
    assert_eq!(status, Some(2));
    assert!(said.contains("there is no libtktrot_preload.so in"), "{said}");
    // Installed, it is in the library directory of the same prefix.
    fs::create_dir(alone.path().join("lib"))?;
    symlink(artifacts::shim()?, alone.path().join("lib/libtktrot_preload.so"))?;
    let output = Command::new(&elsewhere)
        .args(["run", "--", "/bin/sh", "-c", "echo $LD_PRELOAD"])
        .output()?;
    let (status, said) = says(&output);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(said.trim(), alone.path().join("lib/libtktrot_preload.so").display().to_string());
    Ok(())
}

/// `tktrot check --json` of something: its exit status and what it found, by subject.
fn check(arguments: &[&str], dir: Option<&Path>) -> Result<(Option<i32>, Value)> {
    let mut command = tktrot()?;
    if let Some(dir) = dir {
        command.env("TKTROT_DIR", dir);
    }
    let output = command.args(["check", "--json"]).args(arguments).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", says(&output).1))?;
    let schema = fs::read_to_string(artifacts::root().join("docs/schemas/check.schema.json"))?;
    let schema = jsonschema::validator_for(&testbed::schema::closed(&schema)?)?;
    schema.validate(&report).map_err(|error| format!("{error}: {report:#}"))?;
    Ok((output.status.code(), report))
}

/// The finding on a subject: how bad, and what.
fn finding<'r>(report: &'r Value, subject: &str) -> Option<(&'r str, &'r str)> {
    let findings = report["findings"].as_array()?;
    let finding = findings.iter().find(|finding| finding["subject"] == subject)?;
    Some((finding["severity"].as_str()?, finding["found"].as_str()?))
}

#[test]
fn check_finds_nothing_wrong_with_debians_nginx() -> Result {
    let (status, report) = check(&[nginx::BINARY], None)?;
    assert_eq!((status, &report["severity"]), (Some(0), &Value::from("ok")), "{report:#}");
    let (_, library) = finding(&report, "TLS library").ok_or("no finding")?;
    assert!(library.contains("libssl.so.3: OpenSSL 3."), "{library}");
    let said = says(&tktrot()?.args(["check", "nginx"]).output()?).1;
    assert!(
        said.contains("  ok        TLS library ") && said.ends_with("It will work here.\n"),
        "{said}"
    );
    Ok(())
}

/// Compiles a program that does nothing.
fn compiled(dir: &Path, name: &str, options: &[&str]) -> Result<PathBuf> {
    let source = dir.join("nothing.c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    let program = dir.join(name);
    let output = Command::new("cc").arg(&source).args(options).arg("-o").arg(&program).output()?;
    assert!(output.status.success(), "{}", says(&output).1);
    Ok(program)
}

#[test]
fn check_tells_why_it_will_not_work() -> Result {
    let dir = tempfile::tempdir()?;
    let path = |path: &Path| path.display().to_string();

    let fixed = compiled(dir.path(), "static", &["-static"])?;
    let (status, said) = says(&tktrot()?.arg("run").arg(&fixed).output()?);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("static runs without libtktrot: statically linked: nothing"), "{said}");
    let (status, report) = check(&[&path(&fixed)], None)?;
    assert_eq!(status, Some(2));
    assert_eq!(
        finding(&report, "loader").map(|(severity, _)| severity),
        Some("critical"),
        "{report:#}"
    );

    let set_uid = compiled(dir.path(), "set-uid", &["-lssl", "-Wl,--no-as-needed"])?;
    fs::set_permissions(&set_uid, fs::Permissions::from_mode(0o4755))?;
    let (status, report) = check(&[&path(&set_uid)], None)?;
    assert_eq!(status, Some(1), "{report:#}");
    assert_eq!(finding(&report, "privileges"), Some(("warning", "set-user-ID")));

    let script = dir.path().join("script");
    fs::write(&script, "#!/bin/sh -e\nexec nginx\n")?;
    let (status, report) = check(&[&path(&script)], None)?;
    assert_eq!(status, Some(1));
    assert_eq!(finding(&report, "program"), Some(("warning", "a script, run by /bin/sh -e")));

    let text = dir.path().join("text");
    fs::write(&text, "nothing to run")?;
    assert_eq!(check(&[&path(&text)], None)?.0, Some(2));

    let own = compiled(
        dir.path(),
        "own",
        &["-DSSL_CTX_new=main", "-rdynamic", "-Wl,--defsym=SSL_CTX_new=main"],
    )?;
    let (status, report) = check(&[&path(&own)], None)?;
    assert_eq!(status, Some(2), "{report:#}");
    let (severity, _) = finding(&report, "TLS library").ok_or("no finding")?;
    assert_eq!(severity, "critical");
    Ok(())
}

#[test]
fn check_looks_at_where_rings_would_lie_and_what_may_be_locked() -> Result {
    needs_root("it takes rights away");
    let disk = tempfile::tempdir_in(artifacts::target_dir())?;
    let (status, report) = check(&[nginx::BINARY], Some(disk.path()))?;
    assert_eq!(status, Some(2));
    let (severity, found) = finding(&report, "ring directory").ok_or("no finding")?;
    assert_eq!(severity, "critical");
    assert!(found.contains("not on tmpfs"), "{found}");

    let rings = RingDir::new()?;
    fs::set_permissions(rings.path(), fs::Permissions::from_mode(0o777))?;
    let (status, report) = check(&[nginx::BINARY], Some(rings.path()))?;
    assert_eq!(status, Some(2));
    let (_, found) = finding(&report, "ring directory").ok_or("no finding")?;
    assert!(found.contains("others can write to it (mode 0777)"), "{found}");

    let output = Command::new("prlimit")
        .args(["--memlock=4096:4096", "--nproc=1:1"])
        .arg(artifacts::tktrot()?)
        .args(["check", nginx::BINARY])
        .output()?;
    let (status, said) = says(&output);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("warning   memory locks    4 KiB"), "{said}");
    assert!(said.contains("warning   threads         1 (RLIMIT_NPROC)"), "{said}");
    Ok(())
}

#[test]
fn check_looks_into_processes() -> Result {
    let rings = RingDir::new()?;
    let with = Nginx::builder().preload(artifacts::shim()?).ring(&rings).start()?;
    let (status, report) = check(&["--pid", &with.worker_pids()?[0].to_string()], None)?;
    assert_eq!(status, Some(0), "{report:#}");
    let (severity, found) = finding(&report, "ring").ok_or("no finding")?;
    assert_eq!((severity, found), ("ok", &*rings.path().join("nginx.ring").display().to_string()));

    let without = Nginx::builder().start()?;
    let (status, report) = check(&["--pid", &without.master_pid()?.to_string()], None)?;
    assert_eq!(status, Some(2));
    assert_eq!(finding(&report, "shim"), Some(("critical", "it is not in the process")));

    let (status, said) = says(&tktrot()?.args(["check", "--pid", "4194305"]).output()?);
    assert_eq!(status, Some(2));
    assert!(said.contains("/proc/4194305/exe: there is no such process"), "{said}");
    Ok(())
}

/// Debian's package has it there, with the word.
#[test]
fn check_names_the_line_that_switches_tickets_off_in_debians_haproxy_cfg() -> Result {
    const USUAL: &str = "/etc/haproxy/haproxy.cfg";
    let text = fs::read_to_string(USUAL)?;
    let at = text.lines().position(|line| line.trim().starts_with("ssl-default-bind-options"));
    let expected =
        format!("no-tls-tickets found in {USUAL} line {}", at.ok_or("no such line")? + 1);
    let (status, report) = check(&[haproxy::BINARY], None)?;
    assert_eq!(finding(&report, "tickets"), Some(("warning", &*expected)), "{report:#}");
    assert_eq!(status, Some(1));

    // It is not what is read when the command line names another.
    let dir = tempfile::tempdir()?;
    let other = dir.path().join("other.cfg");
    fs::write(&other, "defaults\n  # no-tls-tickets\n")?;
    let other = other.display().to_string();
    let (status, report) = check(&["--", "haproxy", "-W", "-f", &other], None)?;
    assert_eq!((status, finding(&report, "tickets")), (Some(0), None), "{report:#}");
    Ok(())
}

/// Of processes whose configuration is where their command line says: in an empty root directory
/// with a master outside and without, with a title that names nothing, and with other files than ours.
#[test]
fn check_finds_what_switches_tickets_off_in_the_configuration_of_a_process() -> Result {
    needs_root("HAProxy changes its root directory, and a file is mounted over another");
    let options = "ssl-default-bind-options no-tls-tickets";
    let rings = RingDir::new()?;
    let frontend = |builder: haproxy::Builder| -> Result<haproxy::Builder> {
        let (_, crt) = builder.certificate("site")?;
        let builder = builder.preload(artifacts::shim()?).ring(&rings);
        Ok(builder.frontend(&format!("crt {}", crt.display())))
    };
    let builder = frontend(Haproxy::builder()?.mode(Mode::MasterWorker).unprivileged())?;
    let haproxy = builder.global(options).start()?;
    let file = haproxy.dir().join("haproxy.cfg");
    let found = |pid: i32, file: &Path| -> Result {
        let (_, report) = check(&["--pid", &pid.to_string()], None)?;
        let (severity, found) = finding(&report, "tickets").ok_or(format!("{report:#}"))?;
        assert_eq!(severity, "warning");
        assert!(found.contains(&format!("found in {} line ", file.display())), "{found}");
        Ok(())
    };
    found(haproxy.worker()?.pid(), &file)?;
    found(haproxy.main_process()?.pid(), &file)?;
    let alone = frontend(Haproxy::builder()?.unprivileged())?.global(options).start()?;
    found(alone.main_process()?.pid(), &alone.dir().join("haproxy.cfg"))?;

    let nginx = Nginx::builder().preload(artifacts::shim()?).ring(&rings);
    let nginx = nginx.server("ssl_session_tickets off;").start()?;
    let file = nginx.dir().join("nginx.conf");
    found(nginx.worker_pids()?[0], &file)?;
    found(nginx.master_pid()?, &file)?;

    let mut apart = frontend(Haproxy::builder()?)?.prepare()?;
    let file = apart.dir().join("haproxy.cfg");
    let other = apart.dir().join("other.cfg");
    let here = fs::read_to_string(&file)?;
    fs::write(&other, here.replacen("global\n", &format!("global\n{options}\n"), 1))?;
    let mount = format!("mount --bind {} {} && exec \"$@\"", other.display(), file.display());
    apart.environment_mut().launch_through(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    apart.start()?;
    assert!(!fs::read_to_string(&file)?.contains(options));
    found(apart.main_process()?.pid(), &file)?;
    Ok(())
}

#[test]
fn config_check_names_line_and_column() -> Result {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("tktrot.toml");
    let check = |text: &str| -> Result<(Option<i32>, String)> {
        fs::write(&file, text)?;
        let (status, said) = says(&tktrot()?.args(["config", "check"]).arg(&file).output()?);
        Ok((status, said.replace(&file.display().to_string(), "FILE")))
    };
    let (status, said) =
        check("rotate = \"10m\"\nonly = [\"nginx\", \"hitch\"]\ntakeover = false\n")?;
    assert_eq!(status, Some(0));
    insta::assert_snapshot!(said, @r"
    FILE: 3 settings, all valid
      TKTROT_ROTATE=10m
      TKTROT_ONLY=nginx,hitch
      TKTROT_TAKEOVER=no
    ");
    let (status, said) = check("rotate = \"10m\"\n lifetme = \"1h\"\n")?;
    assert_eq!(status, Some(2));
    insta::assert_snapshot!(said, @r#"tktrot: FILE:2:2: there is no setting "lifetme" (did you mean lifetime?); there are ring, dir, capacity, rotate, lifetime, label, bind, renew, takeover, only, upkeep, log, strict, disable and the sections [agent], [mesh], [redis], [export]"#);
    let mesh = "rotate = \"1h\"\n[mesh]\nsecrets = [\"/s\"]\npeers = [\"10.0.0.2\"]\n";
    let (status, said) = check(mesh)?;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the agent shares keys in a mesh with 1 peer and exports nothing"));
    assert!(said.contains("critical  [mesh]: /s: No such file or directory"), "{said}");
    fs::write(&file, "rotate = \"soon\"\nstrict = \"maybe\"\n")?;
    let output = tktrot()?
        .env("TKTROT_BIND", "foo")
        .env("TKTROT_ROTTE", "1h")
        .env("TKTROT_STRICT", "yes")
        .args(["status", "--config"])
        .arg(&file)
        .output()?;
    let (status, said) = says(&output);
    assert_eq!((status, said.lines().count()), (Some(2), 4), "file and environment: {said}");
    for part in [
        ":1:10: rotate has no valid value",
        ":2:10: strict has no valid value; accepted: 1 or 0, yes or no",
        "TKTROT_BIND=\"foo\" cannot be used",
        "(did you mean TKTROT_ROTATE?)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (status, said) = check(&format!("{mesh}lead = 1"))?;
    assert_eq!(status, Some(2));
    insta::assert_snapshot!(said, @r#"tktrot: FILE:5:1: there is no setting "lead" in [mesh]; there are listen, peers, secrets, certificate, key, ca, lead_min, lead_max, ahead, nodes"#);
    let (status, said) = check("rotate = \"soon\"\n[agent]\nlog = 1\n")?;
    assert_eq!((status, said.matches("FILE:").count()), (Some(2), 2), "{said}");
    let (status, said) = check("rotate = \"1s\"\nlifetime = \"7d\"\n")?;
    assert_eq!(status, Some(2));
    insta::assert_snapshot!(said, @"tktrot: FILE:2:12: lifetime has no valid value; accepted: at most 16380s with this rotation");
    let (status, said) = says(&tktrot()?.args(["config", "check", "/no/such/file"]).output()?);
    assert_eq!(
        (status, &*said),
        (Some(2), "tktrot: /no/such/file: there is no such settings file\n")
    );
    Ok(())
}

/// Compiles a library that has nothing but a text.
fn library(path: &Path, soname: &str, text: &str) -> Result {
    let source = path.with_extension("c");
    fs::write(&source, format!("const char text[] = \"{text}\";\n"))?;
    let output = Command::new("cc")
        .args(["-shared", "-nostdlib", "-Wl,--build-id=none"])
        .arg(format!("-Wl,-soname,{soname}"))
        .arg(&source)
        .arg("-o")
        .arg(path)
        .output()?;
    assert!(output.status.success(), "{}", says(&output).1);
    Ok(())
}

/// Before anybody starts it: with a shim that needs a newer one it would not start.
#[test]
fn check_compares_a_programs_glibc_with_what_the_shim_needs() -> Result {
    let dir = tempfile::tempdir()?;
    let here = dir.path().display().to_string();
    for (version, severity) in [("2.16", "critical"), ("9.99", "ok")] {
        let said = format!("GNU C Library (GNU libc) stable release version {version}.");
        library(&dir.path().join("libc.so.6"), "libc.so.6", &said)?;
        let path = [&format!("-L{here}"), &format!("-Wl,-rpath,{here}")].map(|s| s.to_owned());
        let options =
            [&path[0], &path[1], "-nostdlib", "-Wl,--no-as-needed", "-l:libc.so.6", "-emain"];
        let program = compiled(dir.path(), "program", &options)?.display().to_string();
        let (_, report) = check(&[&program], None)?;
        let (seen, found) = finding(&report, "C library").ok_or(format!("{report:#}"))?;
        assert_eq!(seen, severity, "{found}");
        assert!(found.contains(&format!("glibc {version}")), "{found}");
        let would_not = found.contains("the program would not start");
        assert_eq!(would_not, severity == "critical", "{found}");
    }
    let (_, report) = check(&[nginx::BINARY], None)?;
    assert_eq!(finding(&report, "C library").map(|(severity, _)| severity), Some("ok"));
    Ok(())
}

/// Programs that have another TLS library than the shim serves.
#[test]
fn check_names_the_tls_library_whichever_it_is() -> Result {
    let dir = tempfile::tempdir()?;
    let here = dir.path().display().to_string();
    for (name, text, severity, part) in [
        ("libgnutls.so.30", "", "critical", "GnuTLS"),
        ("libnss3.so", "", "critical", "NSS"),
        ("libssl.so.52", "LibreSSL 3.6.2", "warning", "LibreSSL 3.6.2"),
        ("libssl.so.10", "OpenSSL 1.0.2k-fips  26 Jan 2017", "critical", "OpenSSL 1.0.2k-fips"),
    ] {
        library(&dir.path().join(name), name, text)?;
        let (at, link) = (format!("-Wl,-rpath,{here}"), format!("-l:{name}"));
        let options = [&*at, &format!("-L{here}"), "-Wl,--no-as-needed", &link];
        let program = compiled(dir.path(), "program", &options)?.display().to_string();
        let (_, report) = check(&[&program], None)?;
        let (seen, found) = finding(&report, "TLS library").ok_or(format!("{report:#}"))?;
        assert_eq!(seen, severity, "{found}");
        assert!(found.contains(part), "{found}");
    }
    Ok(())
}

/// Why LD_PRELOAD had no effect, and whether the shim is still the one that is installed.
#[test]
fn check_tells_why_a_process_does_not_have_the_shim_or_has_another() -> Result {
    needs_root("it changes users");
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let shim = dir.path().join("libtktrot_preload.so");
    let sleeping = |program: &str, arguments: &[&str]| -> Result<Running> {
        let mut command = Command::new(program);
        command.args(arguments).env("LD_PRELOAD", &shim).stderr(Stdio::null());
        Ok(Running(command.spawn()?))
    };
    let told = |running: &Running, part: &str| -> Result {
        let pid = running.0.id().to_string();
        let mut seen = String::new();
        let found = wait::until(wait::PATIENCE, part, || {
            let (_, report) = check(&["--pid", &pid], None).ok()?;
            seen = report.to_string();
            finding(&report, "shim").filter(|(_, found)| found.contains(part)).map(drop)
        });
        found.map_err(|error| format!("{error}: {seen}").into())
    };
    // There is none; then one that others may not read; then the one that is installed.
    told(&sleeping("sleep", &["60"])?, "there is no such file for it")?;
    fs::copy(artifacts::shim()?, &shim)?;
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o600))?;
    let nobody = ["--reuid=65534", "--clear-groups", "sleep", "60"];
    told(&sleeping("setpriv", &nobody)?, "not every user may read the file")?;
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755))?;
    let sleeper = sleeping("sleep", &["60"])?;
    told(&sleeper, "is in the process")?;
    // An upgrade renames the new file over the old one.
    let new = dir.path().join("new");
    fs::copy(artifacts::shim()?, &new)?;
    fs::rename(&new, &shim)?;
    told(&sleeper, "the file was replaced or removed since")
}

/// A master that has no TLS itself starts a server that gains privileges on its way, as squid does.
#[test]
fn check_names_processes_that_are_without_the_shim() -> Result {
    needs_root("it changes users");
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let source = dir.path().join("master.c");
    fs::write(
        &source,
        "#include <openssl/ssl.h>\n#include <sys/types.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
         int main(int count, char **words) {\n\
         if (count > 1) { SSL_CTX_new(TLS_server_method()); pause(); }\n\
         if (fork() == 0) { seteuid(65534); execl(words[0], words[0], \"worker\", NULL); }\n\
         wait(NULL);\n}\n",
    )?;
    let program = dir.path().join("master");
    let mut cc = Command::new("cc");
    let output = cc
        .arg("-D_GNU_SOURCE")
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .args(["-lssl", "-lcrypto"])
        .output()?;
    assert!(output.status.success(), "{}", says(&output).1);
    let rings = RingDir::new()?;
    let mut command = Command::new(&program);
    command.env("LD_PRELOAD", artifacts::shim()?).env("TKTROT_DIR", rings.path());
    let master = Running(command.spawn()?);
    let pid = master.0.id().to_string();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let worker = wait::until(wait::PATIENCE, "a worker that has executed itself", || {
        let worker = fs::read_to_string(&children).ok()?.trim().to_owned();
        let line = fs::read_to_string(format!("/proc/{worker}/cmdline")).ok()?;
        let maps = fs::read_to_string(format!("/proc/{worker}/maps")).ok()?;
        (line.contains("worker") && maps.contains("libssl.so")).then_some(worker)
    })?;
    let (status, report) = check(&["--pid", &pid], None)?;
    assert_eq!(status, Some(2), "{report:#}");
    let (severity, found) = finding(&report, "its processes").ok_or(format!("{report:#}"))?;
    assert_eq!(severity, "critical");
    assert!(found.contains(&format!("{worker} (master: AT_SECURE)")), "{found}");
    let (_, report) = check(&["--pid", &worker], None)?;
    let (severity, found) = finding(&report, "shim").ok_or(format!("{report:#}"))?;
    assert!(severity == "critical" && found.contains("AT_SECURE"), "{found}");
    let worker: i32 = worker.parse()?;
    // SAFETY: a process that our own child has started, and that waits for a signal.
    unsafe { libc::kill(worker, libc::SIGTERM) };
    Ok(())
}

/// A program that is a link is told by the name that its ring will have; `TKTROT_ONLY` by either.
#[test]
fn check_tells_both_names_of_a_link() -> Result {
    let dir = tempfile::tempdir()?;
    let link = dir.path().join("shop");
    symlink("/usr/bin/openssl", &link)?;
    let wrong = "critical  name            shop; the file is openssl";
    let fine = "ok        name            shop; the file is openssl";
    for (only, line) in [("", fine), ("shop", fine), ("nginx,openssl", fine), ("nginx", wrong)] {
        let output = tktrot()?.env("TKTROT_ONLY", only).arg("check").arg(&link).output()?;
        let (_, text) = says(&output);
        assert!(text.contains(line), "{only:?}: {text}");
    }
    Ok(())
}
