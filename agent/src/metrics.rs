//! What Prometheus asks for, over HTTP: what `tktrot status --prometheus` tells of the ring, and what
//! `tktrot peers` tells of the agent. Beyond loopback it has to show a token,
//! and may speak TLS.
//!
//! `/healthz` and `/readyz` are for whoever looks after the process. They tell no figures, and anybody
//! may ask.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use openssl::memcmp;
use openssl::sha::sha256;
use openssl::ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslOptions};
use prometheus::{Encoder, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};
use tktrot_fleet::config::Agent;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::control::{Asked, Question, Reply};
use super::figures::{Figures, State};
use super::files::Files;
use super::listening;
use super::mesh::tls::read_pair;
use super::start::RingMetrics;

/// So many are connected at most: for another one the oldest that has not asked yet gives way.
const CONNECTED: usize = 128;
/// So many are answered at once, of each kind; others wait.
const ANSWERED: usize = 8;
/// A request, its answer and all.
const WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD: usize = 8 * 1024;

/// Who asks whether the loop turns hears within this time that it does not.
const LOOP_WITHIN: Duration = Duration::from_secs(2);

/// Where metrics are asked for, open.
pub struct Endpoint {
    listener: StdTcpListener,
    access: Access,
    of_ring: RingMetrics,
}

/// Who may ask for metrics, and how.
#[derive(Default)]
pub struct Access {
    token: Option<Token>,
    tls: Option<SslContext>,
}

impl Access {
    /// As the settings say.
    ///
    /// # Errors
    ///
    /// A file that they name is of no use.
    pub fn read(settings: &Agent, files: &Files) -> Result<Access> {
        Ok(Access { token: token(settings, files)?, tls: tls(settings, files)? })
    }
}

/// What is wrong with the files that the settings name.
pub fn flaws(settings: &Agent, files: &Files) -> Vec<Error> {
    let flaws = [token(settings, files).err(), tls(settings, files).err()];
    flaws.into_iter().flatten().collect()
}

fn token(settings: &Agent, files: &Files) -> Result<Option<Token>> {
    let token = settings.metrics_token.as_deref().map(|file| Token::read(file, files));
    token.transpose().context("metrics_token_file")
}

fn tls(settings: &Agent, files: &Files) -> Result<Option<SslContext>> {
    let pair = settings.metrics_certificate.as_ref();
    let context = pair.map(|(certificate, key)| tls_with(certificate, key, files));
    context.transpose().context("metrics_certificate")
}

fn tls_with(certificate: &Path, key: &Path, files: &Files) -> Result<SslContext> {
    let (chain, key) = read_pair(certificate, key, files)?;
    let (own, intermediate) = chain.split_first().context("there is no certificate")?;
    let mut context = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    context.set_certificate(own)?;
    for certificate in intermediate {
        context.add_extra_chain_cert(certificate.clone())?;
    }
    context.set_private_key(&key)?;
    // Nobody comes often enough for tickets, and these would be under a key of this process.
    context.set_num_tickets(0)?;
    context.set_options(SslOptions::NO_TICKET);
    Ok(context.build().into_context())
}

impl Endpoint {
    /// At this address, and for who has access.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub fn open(address: SocketAddr, access: Access, of_ring: RingMetrics) -> Result<Endpoint> {
        let listener = listening::on(address).map_err(std::io::Error::from);
        let listener = listener
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| format!("metrics: cannot listen on {address}"))?;
        Ok(Endpoint { listener, access, of_ring })
    }
}

/// What who asks for metrics has to show; its digest, as all of them have one length.
struct Token([u8; 32]);

impl Token {
    /// The token in this file.
    fn read(file: &Path, files: &Files) -> Result<Token> {
        const LEAST: usize = 16;
        let bytes = files.private(file)?;
        let token = bytes.trim_ascii();
        ensure!(
            token.len() >= LEAST && token.iter().all(u8::is_ascii_graphic),
            "{}: it must hold {LEAST} characters or more, on one line: `tktrot secret new` makes \
             such a file",
            file.display()
        );
        Ok(Token(sha256(token)))
    }

    /// Whether the request shows it (RFC 6750), in a time that says nothing about it.
    fn is_shown(&self, request: &Request<Incoming>) -> bool {
        let shown = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let shown = shown.and_then(|shown| shown.split_at_checked(7));
        shown.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(b"Bearer ")
                && memcmp::eq(&sha256(token.trim_ascii()), &self.0)
        })
    }
}

/// Who knows what is asked for.
struct Knowing {
    access: Access,
    of_ring: RingMetrics,
    driver: mpsc::Sender<Asked>,
    /// For metrics: the ring may let them wait.
    turns: Semaphore,
    /// For readiness, which never waits for those.
    readiness_turns: Semaphore,
}

/// Those that are connected, the oldest first.
#[derive(Default)]
struct Connections(Vec<Connection>);

struct Connection {
    answering: AbortHandle,
    has_asked: Rc<Cell<bool>>,
}

impl Connections {
    /// Another one: where there are too many, one that has not asked is hung up on.
    fn push(&mut self, connection: Connection) {
        self.0.retain(|other| !other.answering.is_finished());
        if self.0.len() >= CONNECTED {
            let idle = self.0.iter().position(|other| !other.has_asked.get());
            self.0.remove(idle.unwrap_or(0)).answering.abort();
        }
        self.0.push(connection);
    }
}

/// Answers until the agent ends.
pub async fn serve(endpoint: Endpoint, driver: mpsc::Sender<Asked>) {
    let Endpoint { listener, access, of_ring } = endpoint;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve metrics"),
    };
    let [turns, readiness_turns] = [(); 2].map(|()| Semaphore::new(ANSWERED));
    let source = Rc::new(Knowing { access, of_ring, driver, turns, readiness_turns });
    let mut connections = Connections::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left: the next attempt may find one.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (source, has_asked) = (Rc::clone(&source), Rc::default());
        let asked = Rc::clone(&has_asked);
        let answering = tokio::task::spawn_local(async move {
            // What goes wrong is the asker's business.
            let _ = timeout(WITHIN, answer(stream, source, asked)).await;
        });
        connections.push(Connection { answering: answering.abort_handle(), has_asked });
    }
}

async fn answer(stream: TcpStream, source: Rc<Knowing>, has_asked: Rc<Cell<bool>>) -> Result<()> {
    let Some(context) = &source.access.tls else {
        return converse(stream, &source, &has_asked).await;
    };
    let mut stream = SslStream::new(Ssl::new(context)?, stream)?;
    Pin::new(&mut stream).accept().await?;
    converse(stream, &source, &has_asked).await
}

/// A request and its answer.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    source: &Rc<Knowing>,
    has_asked: &Cell<bool>,
) -> Result<()> {
    let service = service_fn(move |request| {
        has_asked.set(true);
        let source = Rc::clone(source);
        async move { Ok::<_, Infallible>(respond(&request, &source).await) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(HEAD);
    Ok(server.serve_connection(TokioIo::new(stream), service).await?)
}

async fn respond(request: &Request<Incoming>, source: &Knowing) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/metrics", "/healthz", "/readyz"].contains(&path) {
        return plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz");
    }
    if request.method() != Method::GET {
        return with(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed"), ALLOW, "GET");
    }
    match path {
        "/healthz" => match readiness(source).await {
            // Whatever it says, it turns.
            Ok(_) => plain(StatusCode::OK, "the agent runs"),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/readyz" => match readiness(source).await {
            Ok(Reply::Answer(_)) => plain(StatusCode::OK, "ready"),
            Ok(Reply::Error(why)) => plain(StatusCode::SERVICE_UNAVAILABLE, &why),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        _ if source.access.token.as_ref().is_some_and(|token| !token.is_shown(request)) => {
            let what =
                "Authorization: Bearer TOKEN is needed, with the token of metrics_token_file";
            with(plain(StatusCode::UNAUTHORIZED, what), WWW_AUTHENTICATE, "Bearer")
        }
        _ => match text(source).await {
            Ok(text) => {
                let kind = "text/plain; version=0.0.4";
                with(Response::new(Full::from(text)), CONTENT_TYPE, kind)
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}")),
        },
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

fn with(
    mut response: Response<Full<Bytes>>,
    header: HeaderName,
    value: &'static str,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header, HeaderValue::from_static(value));
    response
}

/// What the agent's loop says of its readiness, or that it does not turn.
async fn readiness(source: &Knowing) -> Result<Reply, &'static str> {
    let asking = async {
        let _turn = source.readiness_turns.acquire().await;
        let (answer, answered) = oneshot::channel();
        let asked = source.driver.send((Question::Ready {}, answer)).await;
        asked.map_err(|_| "the agent is stopping")?;
        answered.await.map_err(|_| "the agent is stopping")
    };
    timeout(LOOP_WITHIN, asking).await.unwrap_or(Err("the agent's loop does not turn"))
}

async fn text(source: &Knowing) -> Result<String> {
    let _turn = source.turns.acquire().await?;
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
    let keys =
        gauge("keys", "Keys in the ring: this host's own, and those of the fleet.", &["origin"])?;
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
    use std::io::{Read, Write};

    use super::super::figures::tests::figures;
    use super::*;

    #[test]
    fn an_agent_whose_loop_does_not_turn_is_not_well() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let no_ring: RingMetrics = Arc::new(|| Ok(String::new()));
        let endpoint =
            Endpoint::open("127.0.0.1:0".parse().unwrap(), Access::default(), no_ring).unwrap();
        let address = endpoint.listener.local_addr().unwrap();
        // Whoever asks waits for an answer.
        let (driver, questions) = mpsc::channel(1);
        let asking = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = tokio::task::LocalSet::new().block_on(&runtime, async {
            tokio::task::spawn_local(serve(endpoint, driver));
            tokio::task::spawn_blocking(|| asking.join()).await.unwrap().unwrap()
        });
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("the agent's loop does not turn"), "{answer}");
        drop(questions);
    }

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
