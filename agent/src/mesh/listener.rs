//! Connections that peers open to this node.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::connection::End;
use super::greeting::{self, Greeting, greet};
use super::link::{Dialler, Link};
use super::state::MeshState;

/// Accepts connections for as long as it runs.
pub async fn listen(state: Rc<MeshState>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::task::spawn_local(serve(state.clone(), stream, address));
            }
            Err(error) => {
                state.complain(state.listens, &format!("cannot accept connections: {error}"));
                // Of descriptors or memory, most likely: others may give some back.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Why a connection does not come about.
enum Refusal {
    /// Its other end is not one of us, or does not behave like one.
    Flaw(String),
    /// It is gone, which honest ones are when they do not want the connection.
    Gone,
}

async fn serve(state: Rc<MeshState>, stream: TcpStream, address: SocketAddr) {
    let source: IpAddr = address.ip().to_canonical();
    let mut entered = None;
    let greeted = {
        let admitted = state.admission.admit(source);
        tokio::select! {
            greeted = timeout(state.timing.handshake, answer(&state, stream, address, &mut entered))
                => greeted.unwrap_or_else(|_| Err(Refusal::Flaw("it did not say who it is in time".into()))),
            reason = admitted.stop.heard() => {
                // Whoever it is, it is the same for all.
                state.complain_about(&state.listens, &reason, "closed the oldest connection");
                Err(Refusal::Gone)
            }
        }
    };
    match greeted {
        Ok(Greeting::Wanted(connection, turn)) => {
            let link = connection.link.clone();
            state.targets.borrow().wake(source);
            state.changed.notify_waiters();
            connection.run(&state).await;
            drop(turn);
            greeting::forget(&state, Some(link));
        }
        Ok(Greeting::Unwanted(node, unwanted)) => {
            tracing::debug!(%address, %node, %unwanted, "not needed");
        }
        Err(Refusal::Flaw(reason)) => {
            state.complain(source, &reason);
            greeting::forget(&state, entered);
        }
        Err(Refusal::Gone) => greeting::forget(&state, entered),
    }
}

async fn answer(
    state: &MeshState,
    stream: TcpStream,
    address: SocketAddr,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, Refusal> {
    let flaw = |error: Error| Refusal::Flaw(format!("{error:#}"));
    stream.set_nodelay(true).map_err(|error| flaw(error.into()))?;
    let stream = state.tls.accept(stream).await.map_err(flaw)?;
    greet(state, stream, address, Dialler::They, entered).await.map_err(|end| match end {
        End::Flaw(_) | End::Silent(_) => Refusal::Flaw(end.to_string()),
        _ => Refusal::Gone,
    })
}
