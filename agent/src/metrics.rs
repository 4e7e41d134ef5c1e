//! What Prometheus asks for, over HTTP on a loopback address: what `tktrot status --prometheus`
//! tells of the ring, and what `tktrot peers` tells of the agent.

use std::convert::Infallible;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Encoder, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::control::{Asked, Question, Reply};
use super::figures::{Figures, State};
use super::start::RingMetrics;

/// So many ask at once at most; others wait.
const AT_ONCE: usize = 8;
/// A request, its answer and all.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD: usize = 8 * 1024;

/// Who knows what is asked for.
struct Knowing {
    of_ring: RingMetrics,
    driver: mpsc::Sender<Asked>,
}

/// Answers until the agent ends.
pub async fn serve(listener: StdTcpListener, of_ring: RingMetrics, driver: mpsc::Sender<Asked>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve metrics"),
    };
    let source = Arc::new(Knowing { of_ring, driver });
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left: the next attempt may find one.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let source = Arc::clone(&source);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let source = Arc::clone(&source);
                async move { Ok::<_, Infallible>(respond(&request, &source).await) }
            });
            let connection = http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong is the asker's business.
            let _ = timeout(WITHIN, connection).await;
            drop(place);
        });
    }
}

async fn respond(request: &Request<Incoming>, source: &Knowing) -> Response<Full<Bytes>> {
    let plain = |status, text: &str| {
        let mut response = Response::new(Full::from(format!("{text}\n")));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is only /metrics");
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed");
        response.headers_mut().insert(ALLOW, "GET".parse().expect("a header's value"));
        return response;
    }
    match text(source).await {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            let kind = "text/plain; version=0.0.4".parse().expect("a header's value");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
    }
}

async fn text(source: &Knowing) -> Result<String> {
    let of_ring = Arc::clone(&source.of_ring);
    // It waits where somebody writes the ring; the node must not.
    let of_ring = tokio::task::spawn_blocking(move || of_ring()).await?;
    let (answer, answered) = oneshot::channel();
    source.driver.send((Question::Peers {}, answer)).await.context("the agent is stopping")?;
    let Reply::Answer(figures) = answered.await.context("the agent is stopping")? else {
        anyhow::bail!("the agent did not answer with figures");
    };
    Ok(of_ring? + &of_agent(&serde_json::from_value(figures)?)?)
}

/// The agent's own metrics.
fn of_agent(figures: &Figures) -> Result<String> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<GaugeVec> {
        let labels = [&["ring"], labels].concat();
        let gauge = GaugeVec::new(Opts::new(format!("tktrot_agent_{name}"), help), &labels)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let ring = figures.ring.as_str();
    let configured = gauge("peers", "Peers that are configured or have connected.", &[])?;
    configured.with_label_values(&[ring]).set(figures.others().count() as f64);
    let up = figures.others().filter(|peer| peer.state == State::Up);
    let ups = gauge("peers_up", "Peers that are connected.", &[])?;
    ups.with_label_values(&[ring]).set(up.count() as f64);
    let synced = gauge("synced", "1 if every connected peer has sent all the keys it holds.", &[])?;
    synced.with_label_values(&[ring]).set(f64::from(u8::from(figures.told.synced)));
    let age = gauge("synced_age_seconds", "Seconds since last fully synced.", &[])?;
    if let Some(ago) = figures.told.synced_ago {
        age.with_label_values(&[ring]).set(ago);
    }
    let keys = gauge("keys", "Keys in the ring, by the node that made them.", &["origin"])?;
    keys.with_label_values(&[ring, "own"]).set(figures.told.own_keys as f64);
    let peers: usize = figures.others().map(|peer| peer.keys).sum();
    keys.with_label_values(&[ring, "peers"]).set(peers as f64);
    let others = figures.told.other_keys.saturating_sub(peers);
    keys.with_label_values(&[ring, "others"]).set(others as f64);
    let answers = gauge(
        "acknowledgement_seconds",
        "Seconds that a peer took to acknowledge the last key.",
        &["peer"],
    )?;
    let trips =
        gauge("round_trip_seconds", "Seconds for a message to a peer and back.", &["peer"])?;
    let connected = gauge("peer_up", "1 if this peer is connected.", &["peer"])?;
    let wrong = gauge(
        "problem",
        "1 for each problem with a peer, which `tktrot peers` explains; of this host itself with none.",
        &["peer", "problem"],
    )?;
    for (peer, problem) in figures.problems() {
        let name = peer.map_or("", |peer| &peer.name);
        wrong.with_label_values(&[ring, name, problem.problem.name()]).set(1.0);
    }
    for peer in figures.others() {
        let labels = [ring, &peer.name];
        let is_up = peer.state == State::Up;
        connected.with_label_values(&labels).set(f64::from(u8::from(is_up)));
        if let Some(seconds) = peer.acknowledgement {
            answers.with_label_values(&labels).set(seconds);
        }
        if let Some(seconds) = peer.round_trip {
            trips.with_label_values(&labels).set(seconds);
        }
    }
    if let Some(redis) = &figures.told.redis {
        let up = gauge("redis_up", "1 if the agent is connected to Redis.", &[])?;
        up.with_label_values(&[ring]).set(f64::from(u8::from(redis.address.is_some())));
        let shared = gauge(
            "redis_shared",
            "1 if the fleet's key encrypts, 0 if a key of this host's own does.",
            &[],
        )?;
        shared.with_label_values(&[ring]).set(f64::from(u8::from(redis.shared)));
    }
    let current = gauge(
        "export_current",
        "1 if the server that reads these key files has the current keys.",
        &["output"],
    )?;
    for export in &figures.exports {
        let output = export.output.to_string_lossy();
        current.with_label_values(&[ring, &output]).set(f64::from(u8::from(export.current)));
    }
    let opts = Opts::new(
        "tktrot_agent_refused_total",
        "Announced keys that were refused, by this agent or by peers.",
    );
    let refused = IntCounterVec::new(opts, &["ring", "by"])?;
    registry.register(Box::new(refused.clone()))?;
    refused.with_label_values(&[ring, "this"]).inc_by(figures.told.refused);
    refused.with_label_values(&[ring, "peers"]).inc_by(figures.told.refused_by_peers);
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    #[test]
    fn a_peer_has_one_name_and_each_problem_is_a_metric() {
        let text = of_agent(&figures()).unwrap();
        for line in [
            r#"tktrot_agent_peers{ring="nginx"} 2"#,
            r#"tktrot_agent_peers_up{ring="nginx"} 1"#,
            r#"tktrot_agent_peer_up{peer="web2.example:4744",ring="nginx"} 1"#,
            r#"tktrot_agent_peer_up{peer="[2001:db8::3]:4744",ring="nginx"} 0"#,
            r#"tktrot_agent_problem{peer="",problem="ring-busy",ring="nginx"} 1"#,
            r#"tktrot_agent_problem{peer="[2001:db8::3]:4744",problem="clock",ring="nginx"} 1"#,
            r#"tktrot_agent_round_trip_seconds{peer="web2.example:4744",ring="nginx"} 0.0004"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }
}
