//! Who is no node: with what it likes to be, and a member that says what it likes.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVersion};
use testbed::wait::PATIENCE;
use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;
use tktrot_fleet::wire::{self, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::super::tls::Stream;
use super::host::tls;

/// A TCP connection from 127.0.0.`from`.
pub async fn tcp(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, from), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// A TLS client's context of this version.
pub fn context(version: SslVersion) -> SslContextBuilder {
    let mut context = SslContext::builder(SslMethod::tls()).unwrap();
    context.set_security_level(0);
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context
}

/// Shakes hands as a client. In TLS 1.3 that may succeed although the server refuses: that is seen
/// when something is read.
pub async fn handshake(
    context: SslContextBuilder,
    stream: TcpStream,
) -> Result<Stream, openssl::ssl::Error> {
    let mut stream = SslStream::new(Ssl::new(&context.build()).unwrap(), stream).unwrap();
    Pin::new(&mut stream).connect().await?;
    Ok(stream)
}

/// True if the other end closes the connection, having said nothing more than that.
pub async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut byte = [0];
    matches!(timeout(PATIENCE, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

/// Waits until the connection is closed, whatever is said before; false if it never is.
pub async fn is_closed_at_last(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut bytes = [0; 4096];
    let ended = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
    timeout(PATIENCE, ended).await.is_ok()
}

/// A member of the fleet with secret 7, before the first word.
pub async fn member(from: u8, to: SocketAddr) -> Stream {
    tls(&[7]).connect(0, tcp(from, to).await).await.unwrap()
}

/// The same, after it has said who it is: the node of the number in its address.
pub async fn greeted_member(from: u8, to: SocketAddr) -> Stream {
    let mut stream = member(from, to).await;
    let hello = Hello { node: NodeId(from.into()), instance: 1, ring: "ring-of-the-test".into() };
    stream.write_all(&wire::hello(&hello, Time(1))).await.unwrap();
    stream
}
