//! The TLS libraries that are built, and what each has.

use std::env;
use std::ffi::OsString;

/// A TLS library, in one version and one way to build it.
#[derive(Debug)]
pub struct Library {
    /// Names its directory below target/tls, and it on the command line.
    pub name: &'static str,
    /// For the table.
    pub title: &'static str,
    pub recipe: Recipe,
    /// The forms of the ticket key callback that it has, first the one that tkt_install takes.
    pub forms: &'static [Form],
}

/// Where it comes from.
#[derive(Debug)]
pub enum Recipe {
    /// The shared one of the system.
    System,
    /// Of a crate whose source is OpenSSL's; shared, with these options to Configure.
    OpenSsl {
        feature: &'static str,
        options: &'static [&'static str],
        /// The number in the shared libraries' names.
        soname: &'static str,
    },
    /// As `OpenSsl`, for musl, as are its programs and what they load of ours (`tools/musl`).
    Musl { feature: &'static str, options: &'static [&'static str], soname: &'static str },
    /// The system's, with nothing but the FIPS provider of a crate's OpenSSL for its cryptography.
    Fips { feature: &'static str },
    /// The OpenSSL of that name in the shape of another library (`shape/`): what that lacks is hidden,
    /// what it has under other names is renamed, and where a server can notice, it behaves as that.
    Shape { of: &'static str, soname: &'static str },
    /// Of a crate whose source is built with CMake: AWS-LC, BoringSSL.
    Cmake(&'static Cmake),
}

/// A library that is built with CMake.
#[derive(Debug)]
pub struct Cmake {
    pub feature: &'static str,
    pub package: &'static str,
    /// The source in the crate.
    pub directory: &'static str,
    /// More directories with headers in the crate, before the source's own.
    pub headers: &'static [&'static str],
    pub options: &'static [&'static str],
    pub is_shared: bool,
    /// Names its version: a macro, in a header.
    pub version: (&'static str, &'static str),
}

/// A form of the ticket key callback, by how it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `SSL_CTX_set_tlsext_ticket_key_evp_cb`.
    Evp,
    /// `SSL_CTX_set_tlsext_ticket_key_cb`, a function.
    HmacFunction,
    /// `SSL_CTX_callback_ctrl`.
    HmacCtrl,
}

impl Form {
    /// As the C tests call it.
    pub fn argument(self) -> &'static str {
        match self {
            Form::Evp => "evp",
            Form::HmacFunction | Form::HmacCtrl => "hmac",
        }
    }

    /// For the table.
    pub fn title(self) -> &'static str {
        match self {
            Form::Evp => "EVP",
            Form::HmacFunction => "HMAC, function",
            Form::HmacCtrl => "HMAC, ctrl",
        }
    }
}

impl Library {
    /// Linked into the program: passed as a table, and out of the shim's reach.
    pub fn is_static(&self) -> bool {
        matches!(self.recipe, Recipe::Cmake(Cmake { is_shared: false, .. }))
    }

    /// libssl has QUIC listeners of its own.
    pub fn has_quic(&self) -> bool {
        let Recipe::OpenSsl { feature, options, .. } = &self.recipe else { return false };
        *feature != "openssl-1.1.1" && !options.contains(&"no-quic")
    }

    /// It behaves as `c-tests/differential/expected.txt` says, which is written for OpenSSL and glibc.
    pub fn is_compared(&self) -> bool {
        !matches!(self.recipe, Recipe::Cmake(_) | Recipe::Shape { .. } | Recipe::Musl { .. })
    }

    /// Its programs are for musl.
    pub fn is_for_musl(&self) -> bool {
        matches!(self.recipe, Recipe::Musl { .. })
    }

    /// Compiles its programs, and it.
    pub fn compiler(&self) -> OsString {
        match self.is_for_musl() {
            true => "musl-gcc".into(),
            false => env::var_os("CC").unwrap_or_else(|| "cc".into()),
        }
    }
}

const BOTH: &[Form] = &[Form::Evp, Form::HmacCtrl];

/// What a TLS server with tickets does not need, for it to build fast. It needs assembler: without it
/// the tests take far longer than the library.
const SMALL: &[&str] = &["no-apps", "no-docs", "no-module", "no-legacy"];

/// All of them, in the order of the table.
pub const LIBRARIES: &[Library] = &[
    Library { name: "system", title: "OpenSSL, Debian's", recipe: Recipe::System, forms: BOTH },
    Library {
        name: "system-fips",
        title: "OpenSSL, Debian's, FIPS provider",
        recipe: Recipe::Fips { feature: "openssl-3.5" },
        forms: &[Form::Evp],
    },
    Library {
        name: "openssl-1.1.1",
        title: "OpenSSL",
        recipe: Recipe::OpenSsl {
            feature: "openssl-1.1.1",
            soname: "1.1",
            options: &[
                "no-engine",
                "no-aria",
                "no-bf",
                "no-blake2",
                "no-camellia",
                "no-cast",
                "no-cms",
                "no-ct",
                "no-dtls",
                "no-gost",
                "no-idea",
                "no-md4",
                "no-mdc2",
                "no-rc2",
                "no-rc4",
                "no-rmd160",
                "no-seed",
                "no-siphash",
                "no-sm2",
                "no-sm3",
                "no-sm4",
                "no-srp",
                "no-ts",
                "no-whirlpool",
            ],
        },
        forms: &[Form::HmacCtrl],
    },
    Library {
        name: "libressl-shape",
        title: "LibreSSL's shape",
        recipe: Recipe::Shape { of: "openssl-1.1.1", soname: "60" },
        forms: &[Form::HmacCtrl],
    },
    Library {
        name: "openssl-3.5",
        title: "OpenSSL",
        recipe: Recipe::OpenSsl { feature: "openssl-3.5", options: SMALL, soname: "3" },
        forms: BOTH,
    },
    Library {
        name: "openssl-3.5-no-deprecated",
        title: "OpenSSL, `no-deprecated`",
        recipe: Recipe::OpenSsl {
            feature: "openssl-3.5",
            soname: "3",
            options: &["no-deprecated", "no-apps", "no-docs", "no-module", "no-legacy", "no-quic"],
        },
        forms: &[Form::Evp],
    },
    Library {
        name: "openssl-4.0",
        title: "OpenSSL",
        recipe: Recipe::OpenSsl { feature: "openssl-4.0", options: SMALL, soname: "4" },
        forms: BOTH,
    },
    Library {
        name: "openssl-3.5-musl",
        title: "OpenSSL, for musl",
        recipe: Recipe::Musl {
            feature: "openssl-3.5",
            soname: "3",
            // musl has no contexts for OpenSSL's coroutines, and musl-gcc no headers of the kernel.
            options: &[
                "no-async",
                "no-engine",
                "no-ktls",
                "no-secure-memory",
                "no-apps",
                "no-docs",
                "no-module",
                "no-legacy",
                "no-quic",
                "no-cmp",
                "no-cms",
                "no-ct",
                "no-ml-dsa",
                "no-ml-kem",
                "no-slh-dsa",
                "no-ts",
            ],
        },
        forms: BOTH,
    },
    Library {
        name: "aws-lc",
        title: "AWS-LC, static",
        recipe: Recipe::Cmake(&Cmake {
            headers: &["generated-include"],
            // As the crate builds it: every name of libcrypto has a prefix.
            options: &[
                "BORINGSSL_PREFIX=aws_lc_0_47_0",
                "BORINGSSL_PREFIX_HEADERS={crate}/generated-include",
            ],
            is_shared: false,
            ..AWS_LC
        }),
        forms: &[Form::HmacFunction],
    },
    Library {
        name: "aws-lc-shared",
        title: "AWS-LC, shared",
        recipe: Recipe::Cmake(&AWS_LC),
        forms: &[Form::HmacFunction],
    },
    Library {
        name: "boringssl",
        title: "BoringSSL, static",
        recipe: Recipe::Cmake(&Cmake {
            feature: "boringssl",
            package: "boring-sys",
            directory: "deps/boringssl",
            headers: &[],
            options: &[],
            is_shared: false,
            version: ("BORINGSSL_API_VERSION", "openssl/base.h"),
        }),
        forms: &[Form::HmacFunction],
    },
];

const AWS_LC: Cmake = Cmake {
    feature: "aws-lc",
    package: "aws-lc-sys",
    directory: "aws-lc",
    headers: &[],
    options: &[],
    is_shared: true,
    version: ("AWSLC_VERSION_NUMBER_STRING", "openssl/base.h"),
};
