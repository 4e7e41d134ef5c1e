//! Builds a TLS library, once: below target/tls/NAME/build, with a stamp that tells from what; for
//! the benchmark below target/tls/NAME/measured.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Result, bail};

use crate::library::{Cmake, LIBRARIES, Library, Recipe};
use crate::source::{self, Source};

/// What programs are compiled and linked with.
#[derive(Debug)]
pub struct Built {
    /// For the table.
    pub version: String,
    pub headers: Vec<PathBuf>,
    /// The libraries, as the linker takes them.
    pub link: Vec<String>,
}

const STAMP: &str = "built-from";

/// The directory of a library and its programs.
pub fn directory(library: &Library) -> PathBuf {
    crate::target().join("tls").join(library.name)
}

/// Tells what the library was built from for the tests, and when.
pub fn stamp(library: &Library) -> PathBuf {
    directory(library).join(STAMP)
}

/// What the library is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To build fast.
    Tests,
    /// To run as fast as what distributions ship: optimized as the library's own makefiles do.
    Bench,
}

/// Builds the library for the tests unless it is there.
pub fn build(library: &Library) -> Result<Built> {
    fs::create_dir_all(directory(library))?;
    match &library.recipe {
        Recipe::System => system(library),
        Recipe::OpenSsl { .. } | Recipe::Musl { .. } => openssl(library, Purpose::Tests),
        Recipe::Fips { feature } => fips(library, feature),
        Recipe::Shape { of, soname } => shape(library, of, soname),
        Recipe::Cmake(recipe) => cmake(library, recipe),
    }
}

/// The configuration that programs run with, if it is not the system's.
pub fn configuration(library: &Library) -> Option<PathBuf> {
    let is_fips = matches!(library.recipe, Recipe::Fips { .. });
    is_fips.then(|| directory(library).join("build/openssl.cnf"))
}

fn system(library: &Library) -> Result<Built> {
    let version = crate::run(Command::new("pkg-config").args(["--modversion", "libssl"]))?;
    if !fs::read_to_string(stamp(library)).is_ok_and(|before| before == version) {
        fs::write(stamp(library), &version)?;
    }
    Ok(Built {
        version: version.trim().to_owned(),
        headers: Vec::new(),
        link: vec!["-lssl".into(), "-lcrypto".into()],
    })
}

/// Builds an OpenSSL unless it is there.
pub fn openssl(library: &Library, purpose: Purpose) -> Result<Built> {
    let (Recipe::OpenSsl { feature, options, soname } | Recipe::Musl { feature, options, soname }) =
        &library.recipe
    else {
        bail!("{} is not built as an OpenSSL", library.name);
    };
    let source = source::fetch(feature, "openssl-src")?;
    let from = source.directory.join("openssl");
    let (place, flags) = match purpose {
        Purpose::Tests => (directory(library), Some("CFLAGS=-O1")),
        Purpose::Bench => (directory(library).join("measured"), None),
    };
    let to = once(library, &place, &source, &options.join(" "), |to| {
        let mut config = Command::new("sh");
        config.arg(from.join("config")).args(["shared", "no-tests", "no-dso"]);
        config.args(*options).args(flags).env("CC", library.compiler()).current_dir(to);
        crate::run(&mut config)?;
        for goals in [&["build_generated"][..], &["libcrypto.a", "libssl.a"]] {
            crate::run(outer_make("make").args(["-j", &jobs()]).args(goals).current_dir(to))?;
        }
        Ok(())
    })?;
    for name in ["crypto", "ssl"] {
        link_shared(library, &to, name, soname)?;
    }
    let version = source.version.split_once('+').map_or("?", |(_, carried)| carried);
    Ok(Built {
        version: version.to_owned(),
        headers: vec![to.join("include"), from.join("include")],
        link: shared_in(&to, &to),
    })
}

/// Makes a library in the shape of another one out of an OpenSSL, which is built unless it is there.
fn shape(library: &Library, of: &str, soname: &str) -> Result<Built> {
    /// What is in its place has the same name.
    const REPLACED: &[&str] = &[
        "OpenSSL_version",
        "OpenSSL_version_num",
        "SSL_CTX_callback_ctrl",
        "SSL_CTX_ctrl",
        "SSL_CTX_new",
        "SSL_ctrl",
    ];
    const RENAMED: [(&str, &str); 2] =
        [("OPENSSL_sk_num", "sk_num"), ("OPENSSL_sk_value", "sk_value")];
    let named = |library: &&Library| library.name == of;
    let base = LIBRARIES.iter().find(named).with_context(|| format!("there is no {of}"))?;
    let carried = openssl(base, Purpose::Tests)?;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("shape");
    let to = directory(library).join("build");
    fs::create_dir_all(&to)?;
    // What it lacks is there under names that nobody asks for.
    let lacks = fs::read_to_string(from.join("lacks"))?;
    let put_aside = |symbol: &str| format!("--redefine-sym={symbol}=openssl_{symbol}");
    let lacking: Vec<_> = lacks.lines().map(put_aside).collect();
    for name in ["crypto", "ssl"] {
        let (archive, object) = (format!("lib{name}.a"), format!("{name}.o"));
        let mut objcopy = Command::new("objcopy");
        objcopy.args(&lacking).args(REPLACED.iter().map(|symbol| put_aside(symbol)));
        objcopy.args(RENAMED.map(|(before, after)| format!("--redefine-sym={before}={after}")));
        objcopy.arg(directory(base).join("build").join(&archive)).arg(&archive);
        crate::run(objcopy.current_dir(&to))?;
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror"]);
        for headers in &carried.headers {
            compile.arg("-I").arg(headers);
        }
        compile.args(["-c", "-o", &object]).arg(from.join(format!("{name}.c")));
        crate::run(compile.current_dir(&to))?;
        crate::run(Command::new("objcopy").args(&lacking).arg(&object).current_dir(&to))?;
        let file = format!("lib{name}.so.{soname}");
        let mut link = Command::new("cc");
        // It calls its own functions in ways that can be interposed: some versions do.
        link.args(["-shared", "-Wl,-z,defs", "-o", &file, &object]);
        link.arg(format!("-Wl,-soname,{file}"));
        link.arg(format!("-Wl,--whole-archive,{archive},--no-whole-archive"));
        link.args((name == "ssl").then_some("./libcrypto.so")).args(["-ldl", "-pthread"]);
        crate::run(link.current_dir(&to))?;
        let link = to.join(format!("lib{name}.so"));
        if !link.exists() {
            symlink(&file, link).context("the link to a library cannot be made")?;
        }
    }
    let mut made_of = format!("{} {}\n", base.name, carried.version);
    for entry in fs::read_dir(from.join("include/openssl"))? {
        made_of += &fs::read_to_string(entry?.path())?;
    }
    if !fs::read_to_string(stamp(library)).is_ok_and(|before| before == made_of) {
        fs::write(stamp(library), made_of)?;
    }
    let headers = [vec![from.join("include")], carried.headers].concat();
    let version = format!("of {}", carried.version);
    Ok(Built { version, headers, link: shared_in(&to, &to) })
}

/// Builds a FIPS provider for the system's OpenSSL, installs it, as its security policy says, with that
/// one's own command, and makes it all the cryptography there is.
fn fips(library: &Library, feature: &str) -> Result<Built> {
    let source = source::fetch(feature, "openssl-src")?;
    let options = ["enable-fips", "no-tests", "no-apps", "no-docs", "no-legacy", "no-quic"];
    once(library, &directory(library), &source, &options.join(" "), |to| {
        // The crate leaves out what the makefiles link a module with; they are not made without.
        let from = to.join("source");
        crate::run(Command::new("cp").arg("-r").arg(source.directory.join("openssl")).arg(&from))?;
        for left_out in ["util/providers.num", "util/mk-fipsmodule-cnf.pl"] {
            fs::write(from.join(left_out), "")?;
        }
        let mut config = Command::new("sh");
        config.arg("source/config").args(options).current_dir(to);
        crate::run(&mut config)?;
        let archive = "providers/libfips.a";
        let entry = "providers/fips/fips-dso-fips_entry.o";
        for goals in [&["build_generated"][..], &[archive, entry]] {
            crate::run(outer_make("make").args(["-j", &jobs()]).args(goals).current_dir(to))?;
        }
        let exported = "FIPS { global: OSSL_provider_init; local: *; };\n";
        fs::write(to.join("fips.versions"), exported)?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-Wl,-Bsymbolic", "-Wl,-z,defs", "-o", "fips.so", entry, archive]);
        cc.args(["-Wl,--version-script=fips.versions", "-ldl", "-pthread"]);
        crate::run(cc.current_dir(to))?;
        let module = to.join("fips.so");
        let mut install = Command::new("openssl");
        install.arg("fipsinstall").arg("-module").arg(&module).args(["-out", "fipsmodule.cnf"]);
        crate::run(install.current_dir(to))?;
        let installed = fs::read_to_string(to.join("fipsmodule.cnf"))?;
        let module = format!("module = {}", module.display());
        fs::write(to.join("openssl.cnf"), format!("{FIPS_ONLY}{installed}{module}\n"))?;
        fs::remove_dir_all(from).context("the copy of the source cannot be removed")
    })?;
    let version = source.version.split_once('+').map_or("?", |(_, carried)| carried);
    Ok(Built {
        version: version.to_owned(),
        headers: Vec::new(),
        link: vec!["-lssl".into(), "-lcrypto".into()],
    })
}

/// The configuration of fips_module(7); base has no cryptography, but encodes keys. What the
/// installation wrote follows: the section fips_sect.
const FIPS_ONLY: &str = "\
config_diagnostics = 1
openssl_conf = openssl_init
[openssl_init]
providers = provider_sect
alg_section = algorithm_sect
[provider_sect]
fips = fips_sect
base = base_sect
[base_sect]
activate = 1
[algorithm_sect]
default_properties = fips=yes
";

/// Makes the shared library of an archive, which is position-independent. OpenSSL's makefiles
/// would, but the crates leave out what they need for it from 3.0 on. Every name has the first
/// version of its series, as nearly all have that are OpenSSL's own.
fn link_shared(library: &Library, directory: &Path, name: &str, soname: &str) -> Result<()> {
    let (file, link) = (format!("lib{name}.so.{soname}"), format!("lib{name}.so"));
    if directory.join(&link).exists() {
        return Ok(());
    }
    let node = if soname == "1.1" { "1_1_0".to_owned() } else { format!("{soname}.0.0") };
    let versions = directory.join(format!("{name}.versions"));
    fs::write(&versions, format!("OPENSSL_{node} {{ global: *; }};\n"))?;
    let mut cc = Command::new(library.compiler());
    cc.args(["-shared", "-Wl,-Bsymbolic", "-Wl,-z,defs", "-o", &file]);
    cc.arg(format!("-Wl,-soname,{file}"));
    cc.arg(format!("-Wl,--version-script,{}", versions.display()));
    cc.arg(format!("-Wl,--whole-archive,lib{name}.a,--no-whole-archive"));
    cc.args((name == "ssl").then_some("./libcrypto.so")).args(["-ldl", "-pthread"]);
    crate::run(cc.current_dir(directory))?;
    symlink(file, directory.join(link)).context("the link to a library cannot be made")
}

fn cmake(library: &Library, recipe: &Cmake) -> Result<Built> {
    let source = source::fetch(recipe.feature, recipe.package)?;
    let from = source.directory.join(recipe.directory);
    let described = format!("{:?} {}", recipe.options, recipe.is_shared);
    let to = once(library, &directory(library), &source, &described, |to| {
        let mut configure = Command::new("cmake");
        configure.arg("-S").arg(&from).arg("-B").arg(to);
        configure.args(["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_FLAGS_RELEASE=-O1"]);
        // GCC 12 sees uninitialised values at -O1 where there are none.
        configure.arg("-DCMAKE_CXX_FLAGS_RELEASE=-O1 -Wno-maybe-uninitialized");
        configure.args(["-DBUILD_TESTING=OFF", "-DBUILD_TOOL=OFF"]);
        configure.args(["-DDISABLE_GO=ON", "-DDISABLE_PERL=ON"]);
        configure.arg(format!("-DBUILD_SHARED_LIBS={}", i32::from(recipe.is_shared)));
        for option in recipe.options {
            let option = option.replace("{crate}", &source.directory.display().to_string());
            configure.arg(format!("-D{option}"));
        }
        crate::run(&mut configure)?;
        let mut build = outer_make("cmake");
        build.arg("--build").arg(to).args(["--target", "crypto", "ssl", "--parallel", &jobs()]);
        crate::run(&mut build)?;
        Ok(())
    })?;
    let mut headers: Vec<_> =
        recipe.headers.iter().map(|more| source.directory.join(more)).collect();
    headers.push(from.join("include"));
    let (name, header) = recipe.version;
    let carried = macro_in(&from.join("include").join(header), name)?;
    let carried = if recipe.package == "boring-sys" { format!("API {carried}") } else { carried };
    // The one has its archives side by side, the other in directories.
    let at = |library: &str, extension: &str| {
        let beside = to.join(format!("lib{library}.{extension}"));
        let below = to.join(library).join(format!("lib{library}.{extension}"));
        if beside.is_file() { beside } else { below }
    };
    let link = if recipe.is_shared {
        let directory = |path: PathBuf| path.parent().map(PathBuf::from).unwrap_or_default();
        shared_in(&directory(at("ssl", "so")), &directory(at("crypto", "so")))
    } else {
        let archives = [at("ssl", "a"), at("crypto", "a")];
        let archives = archives.iter().map(|archive| archive.display().to_string());
        archives.chain(["-lstdc++".into()]).collect()
    };
    let version = format!("{carried} ({} {})", recipe.package, source.version);
    Ok(Built { version, headers, link })
}

/// Calls `make` for the library's empty build directory in `place`, unless the one that is there
/// was made from the same.
fn once(
    library: &Library,
    place: &Path,
    source: &Source,
    options: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (to, stamp) = (place.join("build"), place.join(STAMP));
    let from = format!("{} {options}\n", source.directory.display());
    if fs::read_to_string(&stamp).is_ok_and(|before| before == from) {
        return Ok(to);
    }
    if to.exists() {
        fs::remove_dir_all(&to).context("the old build cannot be removed")?;
    }
    fs::create_dir_all(&to)?;
    eprintln!("{}: building {}", library.name, source.version);
    let began = Instant::now();
    make(&to)?;
    eprintln!("{}: built in {} s", library.name, began.elapsed().as_secs());
    fs::write(&stamp, from)?;
    Ok(to)
}

/// Two directories of shared libraries, for the linker and for ld.so.
fn shared_in(ssl: &Path, crypto: &Path) -> Vec<String> {
    let mut link = Vec::new();
    for directory in [ssl, crypto] {
        link.push(format!("-L{}", directory.display()));
        link.push(format!("-Wl,-rpath,{}", directory.display()));
    }
    link.extend(["-lssl".into(), "-lcrypto".into()]);
    link
}

/// A make that does not look for the job server of the make that runs us.
fn outer_make(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    command
}

fn jobs() -> String {
    thread::available_parallelism().map_or(1, usize::from).to_string()
}

/// The value of a macro in a header, without quotes.
fn macro_in(header: &Path, name: &str) -> Result<String> {
    let text = fs::read_to_string(header).with_context(|| format!("{}", header.display()))?;
    let start = format!("#define {name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    let value = value.with_context(|| format!("{} defines no {name}", header.display()))?;
    Ok(value.trim().trim_matches('"').to_owned())
}
