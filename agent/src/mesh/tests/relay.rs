//! A path between two nodes that keeps what passes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// The direction in which bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the node that dialled.
    There,
    /// To the node that dialled.
    Back,
}

/// A relay on the path of one connection, which keeps what passes.
pub struct Relay {
    /// The address to dial.
    pub address: SocketAddr,
    pieces: Pieces,
}

type Pieces = Rc<RefCell<Vec<(Way, Vec<u8>)>>>;

impl Relay {
    /// A path to there for one connection.
    pub async fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pieces = Pieces::default();
        let kept = pieces.clone();
        spawn_local(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(target).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            spawn_local(pass(near_in, far_out, Way::There, kept.clone()));
            spawn_local(pass(far_in, near_out, Way::Back, kept));
        });
        Relay { address, pieces }
    }

    /// What has passed so far.
    pub fn pieces(&self) -> Vec<(Way, Vec<u8>)> {
        self.pieces.borrow().clone()
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    way: Way,
    pieces: Pieces,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        pieces.borrow_mut().push((way, buffer[..read].to_vec()));
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown().await;
}
