//! `tktrot import FILE --format FORMAT [RING]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use tktrot::clock::{BootClock, Clock};
use tktrot::import::{Flaw, NotImported, import};
use tktrot::ring::removal;

use crate::output::{errln, in_words, outln};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::{Keys, Short, haproxy, lighttpd, nginx, private, raw};

#[derive(clap::Args)]
#[command(after_long_help = "\
The keys only decrypt, for --lifetime from now on, and are then erased: tickets that the server issued \
earlier stay valid, new ones are sealed with the ring's own keys. If the ring does not know the server's \
session timeout yet, give it as --lifetime: its default is then 2h. If there is no such ring it is made, so \
that you can import before the server's first start under libtktrot; use the same settings then.

The files must belong to you or to root, and nobody else may have access to them. If one key cannot be \
imported, none is.

Imported keys are plain: their tickets are not bound to where they were issued. Until the keys end, a \
client with such a ticket from one listener can resume at any other listener of this ring, even where a \
client certificate is required; only the shim refuses a session without a client certificate there. \
docs/moving.md describes how to move a server.")]
pub struct Arguments {
    /// The key file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    ring: RingArgument,

    /// Another file of the same format; may be given again.
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,

    /// The format of the files.
    #[arg(long, value_enum)]
    format: Format,

    /// How long they decrypt: 30m, 2h, at most 7d; by default as long as the ring's tickets live.
    #[arg(long, value_name = "DURATION", value_parser = tktrot::config::values::lifetime)]
    lifetime: Option<Duration>,

    /// Accepts 48-byte keys (AES-128), too.
    #[arg(long)]
    allow_48: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// ssl_session_ticket_key: one key, 80 bytes: name, HMAC, AES-256
    #[value(name = "nginx-80")]
    Nginx80,
    /// ssl_session_ticket_key: one key, 48 bytes: name, AES-128, HMAC (needs --allow-48)
    #[value(name = "nginx-48")]
    Nginx48,
    /// tls-ticket-keys: three lines of base64 or more: name, AES, HMAC
    Haproxy,
    /// ssl.stek-file: one key, 92 bytes: version, begin, end, name, HMAC, AES-256
    Lighttpd,
    /// 80 bytes for each key: name (16), AES-256 (32), HMAC (32)
    Raw,
}

impl Format {
    fn parse(self, bytes: &[u8], short: Short) -> Result<Keys, String> {
        match self {
            Format::Nginx80 => nginx::parse_80(bytes),
            Format::Nginx48 => nginx::parse_48(bytes, short),
            Format::Haproxy => haproxy::parse(bytes, short),
            Format::Lighttpd => {
                lighttpd::parse(bytes, Now { ring: BootClock.now(), wall: SystemTime::now() })
            }
            Format::Raw => raw::parse(bytes),
        }
    }
}

/// The keys of all files, and where each comes from.
#[derive(Default)]
struct Read<'a> {
    keys: Keys,
    origins: Vec<(&'a Path, usize)>,
}

impl<'a> Read<'a> {
    fn add(&mut self, file: &'a Path, keys: Keys) {
        self.origins.extend((1..=keys.len()).map(|number| (file, number)));
        self.keys.extend(keys);
    }

    fn origin(&self, position: usize) -> String {
        let (file, number) = self.origins[position];
        format!("{}: key {number}", file.display())
    }

    /// Why none of the keys was imported.
    fn explained(&self, refused: NotImported, ring: &Path) -> anyhow::Error {
        let ring = ring.display();
        match refused {
            NotImported::Unfit { position, flaw } => {
                let detail = match flaw {
                    Flaw::Repeats(other) => format!(" ({})", self.origin(other)),
                    Flaw::InRing => format!(" ({ring}); was it imported before?"),
                    Flaw::Revoked => format!(" ({ring})"),
                    Flaw::ConstantName | Flaw::Weak => String::new(),
                };
                anyhow!("{}: {flaw}{detail}; nothing was imported", self.origin(position))
            }
            NotImported::Failed(failure) => anyhow!("{ring}: {failure}; nothing was imported"),
        }
    }
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let short = if arguments.allow_48 { Short::Allowed } else { Short::Refused };
    let mut read = Read::default();
    for file in std::iter::once(&arguments.file).chain(&arguments.also) {
        let bytes = private::read(file)?;
        let keys = arguments.format.parse(&bytes, short);
        let keys = keys.map_err(|flaw| anyhow!("{}: {flaw}; nothing was imported", file.display()));
        read.add(file, keys?);
    }
    let (place, keyring, made) = arguments.ring.open_or_make(&settings)?;
    let path = place.path();
    let lifetime = arguments.lifetime.or(settings.config.lifetime);
    let lifetime = lifetime.unwrap_or_else(|| keyring.policy().lifetime);
    if let Err(refused) = import(&keyring, &mut read.keys, lifetime) {
        removal::remove_unused(&place, keyring.ring());
        return Err(read.explained(refused, &path));
    }
    let names: Vec<_> = read.keys.iter().map(|key| key.name.to_string()).collect();
    if made {
        outln!("{}: made, for the server that will start with it", path.display());
    }
    outln!(
        "{}: imported {} ({}), to decrypt for {}",
        path.display(),
        if names.len() == 1 { "1 key".into() } else { format!("{} keys", names.len()) },
        names.join(", "),
        in_words(lifetime)
    );
    errln!(
        "tktrot: until these keys end, their tickets open at every listener of this ring, even where a \
         client certificate is required (docs/security.md)"
    );
    Ok(Severity::Ok)
}
