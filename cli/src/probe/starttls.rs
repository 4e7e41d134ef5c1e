//! The exchange that comes before TLS in protocols that begin without it.

use std::io::{self, Read, Write};

use clap::ValueEnum;

/// A protocol that begins without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Starttls {
    Smtp,
    Lmtp,
    Imap,
    Pop3,
    /// ManageSieve (RFC 5804)
    Sieve,
    Nntp,
    Ftp,
    Ldap,
    /// As a client does; the stream is to the server name
    Xmpp,
    /// As another server does
    XmppServer,
    Mysql,
    Postgres,
}

/// Anything longer is not an answer but an attack.
const MAX_LINE: usize = 4096;
const MAX_LINES: usize = 100;
const MAX_ANSWER: usize = 16 * 1024;

impl Starttls {
    pub fn default_port(self) -> u16 {
        match self {
            Starttls::Smtp => 25,
            Starttls::Lmtp => 24,
            Starttls::Imap => 143,
            Starttls::Pop3 => 110,
            Starttls::Sieve => 4190,
            Starttls::Nntp => 119,
            Starttls::Ftp => 21,
            Starttls::Ldap => 389,
            Starttls::Xmpp => 5222,
            Starttls::XmppServer => 5269,
            Starttls::Mysql => 3306,
            Starttls::Postgres => 5432,
        }
    }

    /// Speaks with the server of this name (or address) until the next byte is TLS.
    ///
    /// # Errors
    ///
    /// The socket fails; or `InvalidData`, with the answer, if the server does not start TLS.
    pub fn negotiate<S: Read + Write>(self, stream: &mut S, server: &str) -> io::Result<()> {
        match self {
            Starttls::Smtp | Starttls::Lmtp => {
                let hello = if self == Starttls::Smtp { "EHLO" } else { "LHLO" };
                code(stream, "220")?;
                stream.write_all(format!("{hello} [127.0.0.1]\r\n").as_bytes())?;
                code(stream, "250")?;
                stream.write_all(b"STARTTLS\r\n")?;
                code(stream, "220")
            }
            Starttls::Ftp => {
                code(stream, "220")?;
                stream.write_all(b"AUTH TLS\r\n")?;
                code(stream, "234")
            }
            Starttls::Imap => {
                starts(&line(stream)?, "* OK")?;
                stream.write_all(b"a1 STARTTLS\r\n")?;
                for _ in 0..MAX_LINES {
                    let answer = line(stream)?;
                    // Other lines are untagged messages of the server.
                    if answer.starts_with("a1 ") {
                        return starts(&answer, "a1 OK");
                    }
                }
                Err(unusable("the server sent too many lines"))
            }
            Starttls::Pop3 => {
                starts(&line(stream)?, "+OK")?;
                stream.write_all(b"STLS\r\n")?;
                starts(&line(stream)?, "+OK")
            }
            Starttls::Sieve => {
                sieve(stream)?;
                stream.write_all(b"STARTTLS\r\n")?;
                sieve(stream)
            }
            Starttls::Nntp => {
                // 200 or 201: with or without posting.
                code(stream, "20")?;
                stream.write_all(b"STARTTLS\r\n")?;
                code(stream, "382")
            }
            Starttls::Ldap => {
                stream.write_all(LDAP_STARTTLS)?;
                let mut tag = [0];
                stream.read_exact(&mut tag)?;
                if tag != [0x30] {
                    return Err(unusable("the server's answer is not LDAP"));
                }
                ldap(&contents(stream)?)
            }
            Starttls::Xmpp | Starttls::XmppServer => {
                stream.write_all(self.stream_to(server).as_bytes())?;
                let ends = ["</stream:features>", "<stream:features/>", "</stream:error>"];
                let features = until(stream, &ends)?;
                if !features.contains(XMPP_TLS) {
                    return Err(match features.contains("stream:error>") {
                        true => refused(from_last(&features, "<stream:error")),
                        false => unusable("the server has no STARTTLS among its features"),
                    });
                }
                stream.write_all(format!("<starttls xmlns='{XMPP_TLS}'/>").as_bytes())?;
                let answer = until(stream, &["/>", "</proceed>", "</failure>"])?;
                starts(answer.trim_start(), "<proceed")
            }
            Starttls::Mysql => {
                let (number, greeting) = mysql_packet(stream)?;
                mysql_greeting(&greeting)?;
                // An SSLRequest: the beginning of a login.
                let request = mysql_login(number.wrapping_add(1), &[]);
                stream.write_all(&request)
            }
            Starttls::Postgres => {
                // An SSLRequest: its length, its number.
                stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])?;
                let mut answer = [0];
                stream.read_exact(&mut answer)?;
                if answer == *b"S" { Ok(()) } else { Err(unusable("the server has no TLS")) }
            }
        }
    }

    /// Ends the session inside TLS, so that the server sees an orderly client.
    pub fn farewell(self, server: &str) -> Vec<u8> {
        match self {
            Starttls::Smtp | Starttls::Lmtp | Starttls::Pop3 | Starttls::Nntp | Starttls::Ftp => {
                b"QUIT\r\n".to_vec()
            }
            Starttls::Imap => b"a2 LOGOUT\r\n".to_vec(),
            Starttls::Sieve => b"LOGOUT\r\n".to_vec(),
            // An unbindRequest.
            Starttls::Ldap => vec![0x30, 5, 2, 1, 2, 0x42, 0],
            Starttls::Xmpp | Starttls::XmppServer => {
                format!("{}</stream:stream>", self.stream_to(server)).into_bytes()
            }
            // The user, and no password; then COM_QUIT, should that be enough.
            Starttls::Mysql => {
                [&mysql_login(2, b"tktrot-probe\0\0")[..], &[1, 0, 0, 0, 1]].concat()
            }
            Starttls::Postgres => vec![b'X', 0, 0, 0, 4],
        }
    }

    /// True if the server counts a client that does not say farewell as an error of its host:
    /// MySQL and MariaDB refuse a host after 100 of them (`max_connect_errors`).
    pub fn must_part(self) -> bool {
        self == Starttls::Mysql
    }

    /// The beginning of an XMPP stream.
    fn stream_to(self, server: &str) -> String {
        let server = server.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
        let namespace = if self == Starttls::Xmpp { "jabber:client" } else { "jabber:server" };
        format!(
            "<?xml version='1.0'?><stream:stream to='{server}' xmlns='{namespace}' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        )
    }
}

const XMPP_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";

/// Reads XML until it ends with one of these.
fn until(stream: &mut impl Read, ends: &[&str]) -> io::Result<String> {
    let mut xml = Vec::new();
    while xml.len() < MAX_ANSWER {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        xml.extend(byte);
        if byte == *b">" && ends.iter().any(|end| xml.ends_with(end.as_bytes())) {
            return Ok(String::from_utf8_lossy(&xml).into_owned());
        }
    }
    Err(unusable("the server sent an answer that is too long"))
}

fn from_last<'a>(text: &'a str, beginning: &str) -> &'a str {
    text.rfind(beginning).map_or(text, |at| &text[at..])
}

/// Reads the lines of a ManageSieve answer, capabilities perhaps, and expects `OK`.
fn sieve(stream: &mut impl Read) -> io::Result<()> {
    for _ in 0..MAX_LINES {
        let line = line(stream)?;
        let word = line.split([' ', '(']).next().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "OK" => return Ok(()),
            "NO" | "BYE" => return Err(refused(&line)),
            _ => {}
        }
    }
    Err(unusable("the server sent too many lines"))
}

/// An extendedRequest for 1.3.6.1.4.1.1466.20037 (RFC 4511, sections 4.12 and 4.14).
const LDAP_STARTTLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Reads the length and the contents of one BER element.
fn contents(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let mut len = usize::from(first[0]);
    if len >= 0x80 {
        let mut long = vec![0; len & 0x7f];
        stream.read_exact(&mut long)?;
        len = long
            .iter()
            .fold(0_usize, |len, &byte| len.saturating_mul(256).saturating_add(usize::from(byte)));
    }
    if len > MAX_ANSWER {
        return Err(unusable("the server sent an answer that is too long"));
    }
    let mut contents = vec![0; len];
    stream.read_exact(&mut contents)?;
    Ok(contents)
}

/// The next element of BER contents: its tag, and what is in it.
fn element(from: &mut &[u8]) -> io::Result<(u8, Vec<u8>)> {
    let mut tag = [0];
    let read = from.read_exact(&mut tag).and_then(|()| contents(from));
    Ok((tag[0], read.map_err(|_| unusable("the server's answer is not LDAP"))?))
}

/// Expects an extendedResponse of success.
fn ldap(message: &[u8]) -> io::Result<()> {
    let mut message = message;
    let _id = element(&mut message)?;
    let (tag, response) = element(&mut message)?;
    if tag != 0x78 {
        return Err(unusable("the server's answer is no extended response"));
    }
    let mut response = &response[..];
    let (_, code) = element(&mut response)?;
    let _name = element(&mut response)?;
    let (_, why) = element(&mut response)?;
    match code[..] {
        [0] => Ok(()),
        _ => Err(refused(&format!(
            "LDAP result {}: {}",
            code.last().copied().unwrap_or_default(),
            String::from_utf8_lossy(&why)
        ))),
    }
}

/// Reads one packet of MySQL's protocol: its number, and what is in it.
fn mysql_packet(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let len = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if len > MAX_ANSWER {
        return Err(unusable("the server's greeting is not that of MySQL"));
    }
    let mut contents = vec![0; len];
    stream.read_exact(&mut contents)?;
    Ok((head[3], contents))
}

const CLIENT_SSL: u16 = 0x0800;

/// Expects a greeting of a server that has TLS.
fn mysql_greeting(greeting: &[u8]) -> io::Result<()> {
    match greeting {
        // An error, after its number.
        [0xff, _, _, why @ ..] => Err(refused(&String::from_utf8_lossy(why))),
        [10, rest @ ..] => {
            let version = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
            // The version's end, a thread, eight bytes of salt, a filler.
            let at = version + 1 + 4 + 8 + 1;
            let capabilities = rest.get(at..at + 2).map(|two| u16::from_le_bytes([two[0], two[1]]));
            match capabilities {
                Some(capabilities) if capabilities & CLIENT_SSL != 0 => Ok(()),
                _ => Err(unusable("the server has no TLS")),
            }
        }
        _ => Err(unusable("the server's greeting is not that of MySQL")),
    }
}

/// A login with CLIENT_PROTOCOL_41, CLIENT_SSL and CLIENT_SECURE_CONNECTION, packets of 16 MiB and
/// utf8mb4; as far as this it is an SSLRequest.
fn mysql_login(number: u8, user: &[u8]) -> Vec<u8> {
    let contents = [&[0, 0x8a, 0, 0, 0, 0, 0, 1, 45][..], &[0; 23], user].concat();
    // It is short.
    [&[contents.len() as u8, 0, 0, number], &contents[..]].concat()
}

/// Reads one line, byte by byte: what comes after the last one belongs to TLS.
fn line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    while line.len() < MAX_LINE {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        line.extend(byte);
    }
    Err(unusable("the server sent a line that is too long"))
}

/// Reads a reply of one or more lines (`250-…`, `250 …`) and expects a code.
fn code(stream: &mut impl Read, expected: &str) -> io::Result<()> {
    for _ in 0..MAX_LINES {
        let line = line(stream)?;
        starts(&line, expected)?;
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
    Err(unusable("the server sent too many lines"))
}

fn starts(line: &str, expected: &str) -> io::Result<()> {
    if line.starts_with(expected) { Ok(()) } else { Err(refused(line)) }
}

/// A refusal in the server's words, cut short and without control characters, for a terminal.
fn refused(answer: &str) -> io::Error {
    let printable: String = answer.chars().filter(|char| !char.is_control()).take(80).collect();
    unusable(&format!("the server refused: \"{printable}\""))
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says, whatever it is told; and what it was told.
    struct Script<'a>(&'a [u8], Vec<u8>);

    impl Read for Script<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Speaks with a server that says this, and then TLS; returns what it was told.
    fn told(protocol: Starttls, says: &str) -> Result<String, String> {
        let says = [says.as_bytes(), b"\x16"].concat();
        let mut script = Script(&says, Vec::new());
        protocol.negotiate(&mut script, "a.example").map_err(|error| error.to_string())?;
        assert_eq!(script.0, b"\x16", "read into TLS, or not far enough");
        Ok(String::from_utf8_lossy(&script.1).into_owned())
    }

    #[test]
    fn each_protocol_gets_as_far_as_tls() {
        let smtp = "220-hello\r\n220 there\r\n250-SIZE\r\n250 STARTTLS\r\n220 go\r\n";
        assert_eq!(told(Starttls::Smtp, smtp).unwrap(), "EHLO [127.0.0.1]\r\nSTARTTLS\r\n");
        let imap = "* OK hello\r\n* some news\r\na1 OK go\r\n";
        assert_eq!(told(Starttls::Imap, imap).unwrap(), "a1 STARTTLS\r\n");
        assert_eq!(told(Starttls::Pop3, "+OK hello\r\n+OK go\r\n").unwrap(), "STLS\r\n");
        assert_eq!(told(Starttls::Ftp, "220 hello\r\n234 go\r\n").unwrap(), "AUTH TLS\r\n");
        assert!(told(Starttls::Postgres, "S").is_ok());
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let smtp = "220 hello\r\n250 SIZE\r\n502 no\x1b[31m such command\r\n";
        let error = told(Starttls::Smtp, smtp).unwrap_err();
        assert!(error.contains("502 no[31m such command"), "{error}");
        assert!(told(Starttls::Postgres, "N").unwrap_err().contains("no TLS"));
        assert!(told(Starttls::Imap, "* BYE\r\n").unwrap_err().contains("BYE"));
    }

    /// Of no answer can be read more than there is, wherever it is cut.
    #[test]
    fn answers_that_are_cut_short_are_errors() {
        let ldap = "0\x0c\x02\x01\x01\x78\x07\x0a\x01\0\x04\0\x04\0";
        assert!(told(Starttls::Ldap, ldap).is_ok());
        for len in 0..ldap.len() {
            let says = &ldap.as_bytes()[..len];
            assert!(Starttls::Ldap.negotiate(&mut Script(says, Vec::new()), "").is_err(), "{len}");
        }
        // Each length says more than there is.
        for (at, _) in
            ldap.bytes().enumerate().filter(|&(at, _)| [1, 3, 6, 8, 11, 13].contains(&at))
        {
            let mut says = ldap.as_bytes().to_vec();
            says[at] = 0x7f;
            assert!(Starttls::Ldap.negotiate(&mut Script(&says, Vec::new()), "").is_err(), "{at}");
        }
    }

    #[test]
    fn the_name_of_a_stream_is_quoted() {
        let stream = Starttls::Xmpp.stream_to("a'b<c&d");
        assert!(stream.contains("to='a&apos;b&lt;c&amp;d'"), "{stream}");
    }

    #[test]
    fn endless_answers_end() {
        let endless = "220-more\r\n".repeat(MAX_LINES + 1);
        assert!(told(Starttls::Smtp, &endless).is_err());
        assert!(told(Starttls::Ftp, &"x".repeat(MAX_LINE + 1)).is_err());
    }
}
