//! The C tests, compiled with a library's headers and run with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use anyhow::{Context, Result};

use crate::build::{self, Built};
use crate::differential;
use crate::library::{Form, Library};

/// Those that say something about a TLS library.
pub const NAMES: &[&str] = &["contract", "scope", "bypass", "generator", "api"];

/// A server that knows nothing of libtktrot, for the shim, and what it loads.
const HOST: &str = "several_libssl/host";
const MODULE: &str = "several_libssl/module";

/// A server that tells what its message callbacks are shown, and knows nothing of libtktrot.
const MESSAGES: &str = "several_libssl/messages";

/// What loads and unloads plugins with different libraries, and such a plugin (`tests/tls_libraries.rs`).
const RELOADED: &str = "several_libssl/reloaded";
const PLUGIN: &str = "several_libssl/plugin";

/// A server that has a FIPS provider only, and the same linked with the library.
const FIPS_SERVER: &str = "fips/server";
const FIPS_LINKED: &str = "fips/linked";

/// A server with QUIC listeners, and the same linked with the library.
const QUIC_SERVER: &str = "quic/server";
const QUIC_LINKED: &str = "quic/linked";

/// A threaded server that knows nothing of libtktrot, and one that is linked with it and forks its
/// workers (`tests/servers`).
const THREADED: &str = "servers/threaded";
const PREFORK: &str = "servers/prefork";

/// What came of one program.
#[derive(Debug)]
pub enum Cell {
    Passed,
    /// With what it said.
    Failed(String),
    /// There is no such thing.
    None,
}

/// What came of all programs that use one form.
#[derive(Debug)]
pub struct Row {
    pub form: Form,
    pub cells: Vec<Cell>,
}

/// The columns of [`Row::cells`].
pub fn columns() -> Vec<&'static str> {
    NAMES.iter().copied().chain(["shim", "QUIC", "differential"]).collect()
}

/// Compiles everything there is for a library.
pub fn compile_all(library: &Library, built: &Built) -> Result<()> {
    let own = |name: &str| [crate::root().join(format!("c-tests/{name}.c"))];
    for name in NAMES {
        compile(library, built, name, &own(name), &[])?;
    }
    if !library.is_static() {
        compile(library, built, HOST, &own(HOST), &[])?;
        compile(library, built, MODULE, &own(MODULE), &["-shared", "-fPIC"])?;
        compile(library, built, MESSAGES, &own(MESSAGES), &[])?;
    }
    if OF_TESTS.contains(&library.name) {
        compile(library, built, RELOADED, &own(RELOADED), &[])?;
        compile(library, built, PLUGIN, &own(PLUGIN), &["-shared", "-fPIC"])?;
    }
    if library.is_compared() {
        let sources = sources_of(differential::DIRECTORY)?;
        compile(library, built, differential::BARE, &sources, &[])?;
        compile(library, built, differential::LINKED, &sources, &["-DLINKED"])?;
    }
    if library.is_for_musl() {
        compile(library, built, THREADED, &own(THREADED), &[])?;
        compile(library, built, PREFORK, &[crate::root().join("examples/server.c")], &[])?;
    }
    if library.has_quic() {
        compile(library, built, QUIC_SERVER, &own(QUIC_SERVER), &[])?;
        compile(library, built, QUIC_LINKED, &own(QUIC_SERVER), &["-DLINKED"])?;
    }
    if build::configuration(library).is_some() {
        compile(library, built, FIPS_SERVER, &own(FIPS_SERVER), &[])?;
        compile(library, built, FIPS_LINKED, &own(FIPS_SERVER), &["-DLINKED"])?;
    }
    Ok(())
}

/// The libraries that `make test` runs with.
const OF_TESTS: &[&str] = &["system", "openssl-1.1.1"];

/// Where its programs find the library and the shim.
pub fn ours(library: &Library) -> PathBuf {
    crate::target().join(match library.is_for_musl() {
        true => "musl/lib",
        false => "c/lib",
    })
}

/// The C files of a directory of c-tests/, sorted.
fn sources_of(directory: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(crate::root().join("c-tests").join(directory))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let mut sources: Vec<_> = paths.into_iter().filter(is_c).collect();
    sources.sort();
    Ok(sources)
}

/// Compiles a program of c-tests/ for the library.
fn compile(
    library: &Library,
    built: &Built,
    name: &str,
    from: &[PathBuf],
    options: &[&str],
) -> Result<()> {
    let to = build::directory(library).join(name);
    let stamp = build::stamp(library);
    let others: Vec<&Path> = from.iter().map(PathBuf::as_path).chain([&*stamp]).collect();
    if is_newer(&to, &others)? {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a program without a directory")?)?;
    let c = ours(library);
    let mut cc = Command::new(library.compiler());
    cc.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]).args(options);
    cc.args(library.is_static().then_some("-DTEST_STATIC_TLS"));
    cc.arg("-I").arg(crate::root().join("include"));
    for headers in &built.headers {
        cc.arg("-I").arg(headers);
    }
    cc.arg("-o").arg(&to).args(from);
    // Each takes only the libraries that it calls.
    cc.arg("-Wl,--as-needed").arg("-L").arg(&c).arg("-ltktrot");
    cc.arg(format!("-Wl,-rpath,{}", c.display()));
    cc.args(&built.link).args(["-pthread", "-ldl", "-lm"]);
    crate::run(&mut cc)?;
    Ok(())
}

/// True if a file is there, and newer than these, the headers it may include and this program.
fn is_newer(file: &Path, others: &[&Path]) -> Result<bool> {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let Ok(built) = time(file) else { return Ok(false) };
    let mut sources = vec![env::current_exe()?, crate::root().join("include/tktrot.h")];
    for directory in ["", "servers", "several_libssl", "differential", "fips", "quic"] {
        for entry in fs::read_dir(crate::root().join("c-tests").join(directory))? {
            sources.push(entry?.path());
        }
    }
    sources.retain(|path| path.extension().is_none_or(|extension| extension != "c"));
    let mut all = sources.iter().map(PathBuf::as_path).chain(others.iter().copied());
    Ok(all.all(|source| time(source).is_ok_and(|changed| changed < built)))
}

/// Runs everything there is for a library.
pub fn run_all(library: &Library) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (at, form) in library.forms.iter().enumerate() {
        let is_first = at == 0;
        let mut cells = Vec::new();
        for name in NAMES {
            let mut command = Command::new(build::directory(library).join(name));
            // It is about the interface, and the same for each form.
            let has_forms = *name != "api";
            command.args(has_forms.then_some(form.argument()));
            let runs = has_forms || is_first;
            cells.push(if runs { run(library, *form, name, command)? } else { Cell::None });
        }
        let runs = is_first && !library.is_static();
        cells.push(match runs {
            true if build::configuration(library).is_some() => with_fips_only(library, *form)?,
            true => worst([under_shim(library, *form)?, sees_the_same(library, *form)?]),
            false => Cell::None,
        });
        let runs = is_first && library.has_quic();
        cells.push(if runs { over_quic(library, *form)? } else { Cell::None });
        let runs = is_first && library.is_compared();
        cells.push(if runs { differential::run(library)? } else { Cell::None });
        rows.push(Row { form: *form, cells });
    }
    Ok(rows)
}

/// Runs a program, which bounds itself, with rings of its own.
fn run(library: &Library, form: Form, name: &str, command: Command) -> Result<Cell> {
    let output = output_of(library, form, name, command)?;
    if output.status.success() {
        return Ok(Cell::Passed);
    }
    let said = [output.stdout, output.stderr].concat();
    Ok(Cell::Failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&said))))
}

fn output_of(library: &Library, form: Form, name: &str, mut command: Command) -> Result<Output> {
    eprintln!("{}: {name}, {}", library.name, form.title());
    let rings = tempfile::Builder::new().prefix("tktrot-test-").tempdir_in("/dev/shm")?;
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TKTROT_DIR", rings.path());
    command.env("TKTROT_LOG", "none");
    command.envs(build::configuration(library).map(|file| ("OPENSSL_CONF", file)));
    command.output().with_context(|| format!("cannot run {command:?}"))
}

/// The first that failed, if any did.
fn worst(cells: impl IntoIterator<Item = Cell>) -> Cell {
    let is_red = |cell: &Cell| matches!(cell, Cell::Failed(_));
    cells.into_iter().find(is_red).unwrap_or(Cell::Passed)
}

/// Whether a server's message callbacks see under the shim what they see without it.
fn sees_the_same(library: &Library, form: Form) -> Result<Cell> {
    let seen = |preloaded: Option<PathBuf>| {
        let mut command = Command::new(build::directory(library).join(MESSAGES));
        command.envs(preloaded.map(|shim| ("LD_PRELOAD", shim)));
        output_of(library, form, "messages", command)
    };
    let shim = ours(library).join("libtktrot_preload.so");
    let (bare, preloaded) = (seen(None)?, seen(Some(shim))?);
    if bare.status.success() && preloaded.status.success() && bare.stdout == preloaded.stdout {
        return Ok(Cell::Passed);
    }
    let said = |output: &Output| {
        let said = [&output.stdout[..], &output.stderr].concat();
        format!("{}\n{}", output.status, String::from_utf8_lossy(&said))
    };
    let text = format!("bare: {}\nunder the shim: {}", said(&bare), said(&preloaded));
    Ok(Cell::Failed(text))
}

/// Runs a server whose module is linked with the library, and which knows nothing of us.
fn under_shim(library: &Library, form: Form) -> Result<Cell> {
    let mut command = Command::new(build::directory(library).join(HOST));
    command.arg("shared").arg(build::directory(library).join(MODULE));
    command.env("LD_PRELOAD", ours(library).join("libtktrot_preload.so"));
    run(library, form, "shim", command)
}

/// A server with QUIC listeners: bare, under the shim and linked.
fn over_quic(library: &Library, form: Form) -> Result<Cell> {
    let mut all = Vec::new();
    for (program, keys) in [(QUIC_SERVER, "own"), (QUIC_SERVER, "shared"), (QUIC_LINKED, "shared")]
    {
        let mut command = Command::new(build::directory(library).join(program));
        command.arg(keys).env("TKTROT_ROTATE", "1s").env("TKTROT_RING", "quic");
        if (program, keys) == (QUIC_SERVER, "shared") {
            command.env("LD_PRELOAD", ours(library).join("libtktrot_preload.so"));
        }
        all.push(run(library, form, &format!("{program} {keys}"), command)?);
    }
    Ok(worst(all))
}

/// As [`under_shim`]; and a server that makes sure that the FIPS provider is all it has, while keys
/// rotate, in the default library context and in one of its own: bare, under the shim and linked.
fn with_fips_only(library: &Library, form: Form) -> Result<Cell> {
    let mut all = vec![under_shim(library, form)?];
    let own = build::configuration(library).context("there is no configuration")?;
    for context in [None, Some(own)] {
        for (program, keys) in
            [(FIPS_SERVER, "own"), (FIPS_SERVER, "shared"), (FIPS_LINKED, "shared")]
        {
            let mut command = Command::new(build::directory(library).join(program));
            command.arg(keys).args(&context).env("TKTROT_ROTATE", "1s").env("TKTROT_RING", "fips");
            if (program, keys) == (FIPS_SERVER, "shared") {
                command.env("LD_PRELOAD", ours(library).join("libtktrot_preload.so"));
            }
            let name = format!("{program} {keys}, own library context: {}", context.is_some());
            all.push(run(library, form, &name, command)?);
        }
    }
    Ok(worst(all))
}
