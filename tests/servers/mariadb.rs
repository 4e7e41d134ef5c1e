//! MariaDB: its session id context is an address of its process, so that OpenSSL refuses what another
//! process has issued, whatever the keys.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use testbed::client::Client;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN, Site};

const MARIADB: Kind =
    Kind { ring: "mariadbd", configure, command, client, outlives: false, ..PLAIN };

fn configure(site: &Site, asks: Asks) -> Result {
    let dir = site.dir.display();
    let ca = match asks {
        Asks::Nobody => String::new(),
        Asks::Anybody | Asks::Everybody => format!("ssl-ca={}\n", site.clients.display()),
    };
    let config = format!(
        "[mysqld]\nuser=root\nbind-address={}\nport={}\ndatadir={dir}/data\nsocket={dir}/socket\n\
         pid-file={dir}/pid\nskip-grant-tables\nskip-networking=0\nskip-name-resolve\n\
         innodb-buffer-pool-size=8M\ninnodb-log-file-size=4M\ninnodb-flush-method=fsync\n\
         innodb-fast-shutdown=2\nssl-cert={}\nssl-key={}\n{ca}",
        site.addr.ip(),
        site.addr.port(),
        site.certificate.cert.display(),
        site.certificate.key.display(),
    );
    fs::create_dir_all(site.dir.join("data"))?;
    Ok(fs::write(site.dir.join("my.cnf"), config)?)
}

fn command(site: &Site) -> Vec<String> {
    let config = site.dir.join("my.cnf").display().to_string();
    ["/usr/sbin/mariadbd".into(), format!("--defaults-file={config}")].to_vec()
}

/// CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION; packets of 16 MB; utf8mb4.
const REQUEST: [u8; 9] = [0x00, 0x8a, 0x00, 0x00, 0, 0, 0, 1, 45];

/// A packet: its length, its number, and what is in it.
fn packet(number: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len() as u8;
    [&[length, 0, 0, number], contents].concat()
}

fn client(client: Client) -> Client {
    // The user "", without a password, and then COM_QUIT.
    let login = [&REQUEST[..], &[0; 23], b"root\0\0"].concat();
    client.saying([packet(2, &login), packet(0, &[1])].concat()).after(greet).content_with_eof()
}

/// Reads the greeting, and asks for TLS.
fn greet(stream: &mut TcpStream) -> io::Result<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let mut greeting = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
    stream.read_exact(&mut greeting)?;
    stream.write_all(&packet(1, &[&REQUEST[..], &[0; 23]].concat()))
}

#[test]
fn mariadb_resumes_within_one_life() -> Result {
    journeys(MARIADB, &[Asks::Nobody, Asks::Anybody])
}
