//! The exchange that comes before TLS in protocols that begin without it.

use std::io::{self, Read, Write};

use clap::ValueEnum;

/// A protocol that begins without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Starttls {
    Smtp,
    Imap,
    Pop3,
    Ftp,
    Postgres,
}

/// Anything longer is not an answer but an attack.
const MAX_LINE: usize = 4096;
const MAX_LINES: usize = 100;

impl Starttls {
    pub fn default_port(self) -> u16 {
        match self {
            Starttls::Smtp => 25,
            Starttls::Imap => 143,
            Starttls::Pop3 => 110,
            Starttls::Ftp => 21,
            Starttls::Postgres => 5432,
        }
    }

    /// Speaks until the next byte is TLS.
    ///
    /// # Errors
    ///
    /// The socket fails; or `InvalidData`, with the answer, if the server does not start TLS.
    pub fn negotiate<S: Read + Write>(self, stream: &mut S) -> io::Result<()> {
        match self {
            Starttls::Smtp => {
                code(stream, "220")?;
                stream.write_all(b"EHLO [127.0.0.1]\r\n")?;
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
    pub fn farewell(self) -> &'static [u8] {
        match self {
            Starttls::Smtp | Starttls::Pop3 | Starttls::Ftp => b"QUIT\r\n",
            Starttls::Imap => b"a2 LOGOUT\r\n",
            Starttls::Postgres => &[b'X', 0, 0, 0, 4],
        }
    }
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
        protocol.negotiate(&mut script).map_err(|error| error.to_string())?;
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

    #[test]
    fn endless_answers_end() {
        let endless = "220-more\r\n".repeat(MAX_LINES + 1);
        assert!(told(Starttls::Smtp, &endless).is_err());
        assert!(told(Starttls::Ftp, &"x".repeat(MAX_LINE + 1)).is_err());
    }
}
