//! `tktrot import FILE --format FORMAT [RING]`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use tktrot::clock::{BootClock, Clock};
use tktrot::import::{Flaw, NotImported, import};
use tktrot::ring::removal;

use crate::output::{errln, outln};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::{Keys, Short, haproxy, lighttpd, nginx, private, raw};

#[derive(clap::Args)]
#[command(after_long_help = "\
The keys only decrypt, for --lifetime from now on, and are then erased: tickets that the server \
issued before go on, new ones get the ring's own keys. Give the server's session timeout as \
--lifetime where the ring does not know it yet: its default is 2h. If there is no such ring it is made, so that \
this can precede the server's first start under libtktrot; give the same settings then.

The files must be yours or root's, and nobody else may have rights to them. If one key cannot be \
taken, none is.

Imported keys are plain: their tickets are not bound to where they were issued. So until they end, \
whoever has such a ticket of one listener can resume it at any other one of this ring, also where a \
client certificate is required. docs/moving.md has the whole way of moving a server.")]
pub struct Arguments {
    /// The file of keys.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    ring: RingArgument,

    /// Another file of the same format; may be given again.
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,

    /// What the file is for.
    #[arg(long, value_enum)]
    format: Format,

    /// How long they decrypt: 30m, 2h, at most 7d; by default as long as the ring's tickets live.
    #[arg(long, value_name = "DURATION", value_parser = tktrot::config::values::lifetime)]
    lifetime: Option<Duration>,

    /// Takes keys of 48 bytes, too: AES-128.
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

/// The keys of all files, and of each where it is from.
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

    /// Why none of them was imported.
    fn explained(&self, refused: NotImported, ring: &Path) -> anyhow::Error {
        let ring = ring.display();
        match refused {
            NotImported::Unfit { position, flaw } => {
                let detail = match flaw {
                    Flaw::Repeats(other) => format!(" ({})", self.origin(other)),
                    Flaw::InRing => format!(" ({ring}); was it imported before?"),
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
        outln!("{}: made, for the server that is to start with it", path.display());
    }
    outln!(
        "{}: imported {} ({}), to decrypt for {} s",
        path.display(),
        if names.len() == 1 { "1 key".into() } else { format!("{} keys", names.len()) },
        names.join(", "),
        lifetime.as_secs()
    );
    errln!(
        "tktrot: until they end, tickets of these keys open at every listener of this ring, also \
         where a client certificate is required (docs/security.md)"
    );
    Ok(Severity::Fine)
}
