//! Those who call.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::frames::End;
use super::greeting::{self, Greeting, greet};
use super::link::Link;
use super::registry::Dialler;
use super::shared::Shared;

/// Accepts connections for as long as it runs.
pub async fn listen(shared: Rc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::task::spawn_local(serve(shared.clone(), stream, address));
            }
            Err(error) => {
                shared.complain(shared.listens, &format!("no connection is accepted: {error}"));
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

async fn serve(shared: Rc<Shared>, stream: TcpStream, address: SocketAddr) {
    let source: IpAddr = address.ip().to_canonical();
    let mut entered = None;
    let greeted = {
        let admitted = shared.admission.admit(source);
        tokio::select! {
            greeted = timeout(shared.timing.handshake, answer(&shared, stream, address, &mut entered))
                => greeted.unwrap_or_else(|_| Err(Refusal::Flaw("it did not say who it is in time".into()))),
            reason = admitted.stop.heard() => {
                // Whoever it is, it is the same for all.
                shared.complain_about(&shared.listens, &reason, "some were ended");
                Err(Refusal::Gone)
            }
        }
    };
    match greeted {
        Ok(Greeting::Wanted(connection, turn)) => {
            let link = connection.link.clone();
            shared.targets.borrow().wake(source);
            shared.changed.notify_waiters();
            connection.run(&shared).await;
            drop(turn);
            greeting::forget(&shared, Some(link));
        }
        Ok(Greeting::Unwanted(node, unwanted)) => {
            tracing::debug!(%address, %node, ?unwanted, "not needed");
        }
        Err(Refusal::Flaw(reason)) => {
            shared.complain(source, &reason);
            greeting::forget(&shared, entered);
        }
        Err(Refusal::Gone) => greeting::forget(&shared, entered),
    }
}

async fn answer(
    shared: &Shared,
    stream: TcpStream,
    address: SocketAddr,
    entered: &mut Option<Rc<Link>>,
) -> Result<Greeting, Refusal> {
    let flaw = |error: Error| Refusal::Flaw(format!("{error:#}"));
    stream.set_nodelay(true).map_err(|error| flaw(error.into()))?;
    let stream = shared.tls.accept(stream).await.map_err(flaw)?;
    greet(shared, stream, address, Dialler::They, entered).await.map_err(|end| match end {
        End::Flaw(reason) | End::Silent(reason) => Refusal::Flaw(reason),
        End::Closed(_) => Refusal::Gone,
    })
}
