//! The page over real sockets.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hrm_common::{
    config::{Config, LearnerConfig, WebListen},
    model::{ModelConfig, Parameters},
    pem, token,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::{server::CLIENTS, *};
use crate::{
    admission::{
        access::Access,
        service::RunCounters,
        sessions::{Peer, Sessions},
    },
    storage::{
        fixture::train_record,
        records::{EvalRecord, Evaluation, Record, TrainRecord, WalkBy},
    },
    transport::certs::{self, file},
};

/// Only a failing test reaches this limit.
const PATIENCE: Duration = Duration::from_secs(60);

const ANY_PORT: WebListen = WebListen::At(SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    0,
));

fn config() -> Config {
    let mut config = Config {
        model: ModelConfig {
            hidden: 8,
            inter_multiple: 8,
            ..ModelConfig::small()
        },
        learner: LearnerConfig {
            web_listen: ANY_PORT,
            ..LearnerConfig::default()
        },
        ..Config::default()
    };
    config.run.name = "a run".into();
    config.eval.episodes = 2;
    config
}

/// A page with a feed that the test fills.
struct Served {
    feed: Arc<Feed>,
    page: LivePage,
    sessions: Arc<Sessions>,
    address: SocketAddr,
}

impl Served {
    async fn new() -> Self {
        Self::from_config(&config()).await
    }

    async fn from_config(config: &Config) -> Self {
        let feed = Feed::new(config);
        let access = Arc::new(Access::new(&config.learner).expect("tokens"));
        let sessions = Arc::new(Sessions::new(1, 0, 9));
        let watched = Watched {
            sessions: sessions.clone(),
            counters: Arc::new(RunCounters::new(7, 3)),
        };
        let page = LivePage::open(&config.learner, feed.clone(), access, watched);
        let page = page.await.expect("a free port").expect("a page");
        let url = page.url();
        let (_, address) = url.trim_end_matches('/').split_once("//").expect("a URL");
        Self {
            feed,
            sessions,
            address: address.parse().expect("an address"),
            page,
        }
    }

    /// Sends a request whose connection closes after the answer.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("a port");
        let headers = format!("Host: localhost\r\nConnection: close\r\n{headers}");
        let mut answer = Answer::open(stream, method, path, &headers).await;
        let rest = answer.stream.read_to_end(&mut answer.body);
        timeout(PATIENCE, rest)
            .await
            .expect("an end")
            .expect("readable");
        answer
    }

    async fn follow(&self) -> Events {
        let stream = TcpStream::connect(self.address).await.expect("a port");
        Events::open(stream).await
    }
}

trait Wire: AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Wire for T {}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    stream: BufReader<Box<dyn Wire>>,
}

impl Answer {
    /// Sends a request, and reads the head of the answer.
    async fn open(stream: impl Wire + 'static, method: &str, path: &str, headers: &str) -> Self {
        let mut stream = BufReader::new(Box::new(stream) as Box<dyn Wire>);
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream.flush().await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, stream.read_u8())
                .await
                .expect("an answer");
            head.push(byte.expect("an answer"));
        }
        let headers = String::from_utf8(head).expect("text").to_lowercase();
        let status = headers.split(' ').nth(1).expect("a status");
        Self {
            status: status.parse().expect("a number"),
            headers,
            body: Vec::new(),
            stream,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An open event stream.
struct Events {
    answer: Answer,
    /// The received text, without the frames of the chunked encoding.
    text: String,
}

impl Events {
    async fn open(stream: TcpStream) -> Self {
        let answer = Answer::open(stream, "GET", "/events", "Host: localhost\r\n").await;
        Self {
            answer,
            text: String::new(),
        }
    }

    /// Returns the next event that is no comment: its name and data. Returns `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        timeout(PATIENCE, self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                if let Some((name, data)) = event.split_once("\ndata: ") {
                    let name = name.strip_prefix("event: ").expect("a name");
                    return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
                }
                assert_eq!(event, ":", "a comment");
                continue;
            }
            let chunk = self.chunk().await?;
            self.text.push_str(&chunk);
        }
    }

    async fn chunk(&mut self) -> Option<String> {
        let stream = &mut self.answer.stream;
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.push(stream.read_u8().await.ok()?);
        }
        let size = String::from_utf8_lossy(&size);
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        chunk.truncate(size);
        (size > 0).then(|| String::from_utf8(chunk).expect("text"))
    }

    /// Returns the names of events up to the first one of that name, and its data.
    async fn until(&mut self, wanted: &str) -> (Vec<String>, Value) {
        let mut names = Vec::new();
        loop {
            let (name, data) = self.next().await.expect("more events");
            names.push(name);
            if names.last().is_some_and(|name| name == wanted) {
                return (names, data);
            }
        }
    }
}

fn train(frames: u64) -> Record {
    Record::Train(TrainRecord {
        seconds: 1.0,
        updates_tried: 1,
        version: 1,
        frames_per_second: 1.0,
        updates_per_second: 1.0,
        loss_value: f64::NAN,
        stages: BTreeMap::from([("wait".to_owned(), 1.0)]),
        ..train_record(frames)
    })
}

fn eval(frames: u64) -> Record {
    Record::Eval(EvalRecord {
        frames,
        seconds: 1.0,
        updates_tried: 1,
        evaluation: Evaluation {
            policy: WalkBy::Greedy,
            seed: Some(1),
            episodes: 2,
            success: 0.5,
            success_ci95: [0.1, 0.9],
            path_ratio: None,
            mean_length: 1.0,
            mean_return: 0.5,
            versus_oracle: None,
            segments: None,
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_page_load_nothing_from_elsewhere_and_stay_unembedded() {
    let served = Served::new().await;
    for (path, kind, part) in [
        ("/", "text/html", "<h1"),
        ("/?any=query", "text/html", "<h1"),
        ("/page.css", "text/css", "prefers-color-scheme: dark"),
        ("/page.js", "text/javascript", "EventSource(\"events\")"),
        ("/charts.js", "text/javascript", "hrmChart"),
        ("/player.js", "text/javascript", "hrmReplay"),
        ("/player.css", "text/css", ".hrm-replay"),
        ("/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let answer = served.ask("GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}");
        let kind = format!("content-type: {kind}");
        assert!(answer.headers.contains(&kind), "{}", answer.headers);
        assert!(answer.text().contains(part), "{path}");
        // An absolute address would miss a proxy's path prefix.
        for absolute in ["src=\"/", "href=\"/", "(\"/", "url("] {
            assert!(!answer.text().contains(absolute), "{path}: {absolute}");
        }
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cross-origin-resource-policy: same-origin\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.headers.contains(header), "{}", answer.headers);
        }
        let head = served.ask("HEAD", path, "").await;
        assert_eq!((head.status, head.body), (200, Vec::new()), "{path}");
    }
    for path in ["/recording.json", "/metrics", "/../Cargo.toml"] {
        let answer = served.ask("GET", path, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.headers.contains("default-src 'none'"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_read_only_and_answers_to_its_own_host_names() {
    let served = Served::new().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/", "/events", "/elsewhere"] {
            let answer = served.ask(method, path, "Content-Length: 0\r\n").await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.headers.contains("allow: get, head\r\n"));
        }
    }
    for (host, status) in [("127.0.0.1", 200), ("evil.example", 421)] {
        let stream = TcpStream::connect(served.address).await.expect("a port");
        let headers = format!("Host: {host}\r\n");
        let answer = Answer::open(stream, "GET", "/events", &headers).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_the_history_and_then_each_record_once_and_in_order() {
    let served = Served::new().await;
    served.feed.resume(&[train(100), eval(150)]);
    served.feed.record(&train(200));
    let mut early = served.follow().await;
    assert_eq!(early.answer.status, 200);
    for header in ["content-type: text/event-stream", "x-accel-buffering: no"] {
        assert!(early.answer.headers.contains(header));
    }
    let (name, run) = early.next().await.expect("an event");
    assert_eq!(name, "run");
    assert_eq!(
        (&run["name"], &run["maze"], &run["preset"]),
        (&json!("a run"), &json!("four-rooms"), &json!("small"))
    );
    for (kind, frames, staged) in [
        ("train", 100, false),
        ("train", 200, true),
        ("eval", 150, false),
    ] {
        let (name, record) = early.next().await.expect("an event");
        assert_eq!(name, "record");
        assert_eq!(
            (&record["kind"], &record["frames"]),
            (&json!(kind), &json!(frames))
        );
        assert_eq!(record["actor_stages"].is_array(), staged, "{record}");
        assert!(record["loss_value"].is_null(), "NaN is no JSON: {record}");
    }
    let (name, _) = early.next().await.expect("an event");
    assert_eq!(name, "status");

    served.feed.record(&train(300));
    served.feed.record(&eval(300));
    for kind in ["train", "eval"] {
        let (names, record) = early.until("record").await;
        assert!(names.iter().rev().skip(1).all(|name| name == "status"));
        assert_eq!(
            (&record["kind"], &record["frames"]),
            (&json!(kind), &json!(300))
        );
    }
    let mut late = served.follow().await;
    let (names, _) = late.until("status").await;
    let records = names.iter().filter(|name| *name == "record").count();
    assert_eq!((names[0].as_str(), records), ("run", 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_the_run_arrives_when_it_changes_and_the_end_comes_last() {
    let served = Served::new().await;
    let mut events = served.follow().await;
    let mut status = events.until("status").await.1;
    while status["frames"] != 7 {
        status = events.until("status").await.1;
    }
    let before = json!({
        "phase": "training", "actors": 0, "frames": 7, "updates": 3, "done": 0.0, "seconds_left": null,
    });
    assert_eq!(status, before);
    served
        .feed
        .progress(0.25, Some(Duration::from_millis(1900)));
    served.sessions.join(1, Peer::default()).expect("room");
    let (_, status) = events.until("status").await;
    assert_eq!(status["actors"], 1);
    assert_eq!(
        (&status["done"], &status["seconds_left"]),
        (&json!(0.25), &json!(1))
    );
    served.feed.enter(Phase::Complete);
    served.page.finish().await;
    let (_, status) = events.until("status").await;
    assert_eq!(status["phase"], "complete");
    assert_eq!(events.next().await, None, "the stream ends");
    // The task that accepts connections ends by itself.
    let closed = async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_is_followed_by_its_first_episodes() {
    let config = config();
    let served = Served::from_config(&config).await;
    let mut events = served.follow().await;
    let start = events.until("run").await.1["start"].clone();
    assert!(start.is_u64(), "{start}");
    events.until("status").await;
    let parameters = Parameters::new(&config.model, config.env.grid(), 1).expect("a model");
    served.feed.evaluated(400, &parameters, &|| true);
    assert_eq!(served.ask("GET", "/recording.json", "").await.status, 404);
    served.feed.evaluated(500, &parameters, &|| false);
    let id = json!({"start": start, "frames": 500});
    assert_eq!(events.until("recording").await.1, id);
    let answer = served.ask("GET", "/recording.json", "").await;
    let length = format!("content-length: {}\r\n", answer.body.len());
    assert!(answer.headers.contains(&length), "{}", answer.headers);
    let recording: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(
        json!({"start": recording["start"], "frames": recording["frames"]}),
        id
    );
    assert_eq!(recording["walkers"], json!(["a run, 500 frames"]));
    let episodes = recording["episodes"].as_array().expect("a list");
    let indices: Vec<_> = episodes.iter().map(|episode| &episode["index"]).collect();
    assert_eq!(indices, [0, 1], "eval.episodes is 2");
    let mut late = served.follow().await;
    assert_eq!(late.until("recording").await.1, id);
    // The same run in another process.
    let restarted = Served::from_config(&config).await;
    let run = restarted.follow().await.until("run").await.1;
    assert_ne!(run["start"], start);
}

#[tokio::test(flavor = "multi_thread")]
async fn further_clients_are_turned_away_until_one_leaves() {
    let served = Served::new().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut events = served.follow().await;
        events.until("status").await;
        clients.push(events);
    }
    let answer = served.ask("GET", "/events", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains("retry-after: 10\r\n"));
    assert_eq!(served.ask("GET", "/", "").await.status, 200);
    clients.pop();
    let again = async {
        while served.follow().await.answer.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("a place is free");
    served.feed.enter(Phase::Evaluating);
    let mut status = clients[0].until("status").await.1;
    while status["phase"] != "evaluating" {
        status = clients[0].until("status").await.1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_delays_no_feed() {
    const RECORDS: u64 = 50_000;
    let served = Served::new().await;
    let mut slow = served.follow().await;
    slow.until("status").await;
    let feed = served.feed.clone();
    let fed = tokio::task::spawn_blocking(move || {
        for frames in 0..RECORDS {
            feed.record(&train(frames));
        }
    });
    timeout(PATIENCE, fed)
        .await
        .expect("the feed waits for nobody")
        .expect("no panic");
    let mut received = 0;
    while let Some((name, _)) = slow.next().await {
        received += u64::from(name == "record");
    }
    assert!(received < RECORDS, "{received}");
    let mut fresh = served.follow().await;
    let (names, _) = fresh.until("status").await;
    assert!(names.len() < 1000, "a thinned history: {}", names.len());
}

#[tokio::test]
async fn an_automatic_port_avoids_a_taken_one_and_a_set_port_does_not() {
    // Taken by this test, or by somebody else.
    let _taken = std::net::TcpListener::bind(WebListen::PREFERRED);
    let mut config = config();
    config.learner.web_listen = WebListen::Auto;
    let served = Served::from_config(&config).await;
    assert!(served.address.ip().is_loopback());
    assert_ne!(served.address.port(), WebListen::PREFERRED.port());
    config.learner.web_listen = WebListen::At(served.address);
    let watched = Watched {
        sessions: served.sessions.clone(),
        counters: Arc::default(),
    };
    let access = Arc::new(Access::Open);
    let error = LivePage::open(&config.learner, served.feed.clone(), access, watched)
        .await
        .expect_err("taken");
    let message = error.to_string();
    assert!(message.contains("learner.web_listen"), "{message}");
}

/// Returns a connection that trusts the authority in `certs` and shows no certificate.
async fn encrypted(address: SocketAddr, certs: &Path) -> impl Wire + 'static {
    let ca = fs::read(certs.join(file::CA)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    for authority in pem::certificates("a test", &certs.join(file::CA), &ca).expect("PEM") {
        roots.add(authority).expect("an authority");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.expect("a port");
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_the_page_needs_tls_and_a_viewers_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("certs");
    certs::make(&path, &[], 1).expect("certificates");
    let at = |name: &str| Some(path.join(name));
    let mut config = config();
    config.learner.web_listen = WebListen::At("0.0.0.0:0".parse().expect("an address"));
    config.learner.tls_certificate = at(file::LEARNER);
    config.learner.tls_private_key = at(file::LEARNER_KEY);
    config.learner.tls_client_ca = at(file::CA);
    config.learner.actor_tokens_file = at(file::ACTOR_TOKENS);
    config.learner.viewer_tokens_file = at(file::VIEWER_TOKENS);
    let feed = Feed::new(&config);
    let access = Arc::new(Access::new(&config.learner).expect("tokens"));
    let watched = Watched {
        sessions: Arc::new(Sessions::new(1, 0, 9)),
        counters: Arc::default(),
    };
    let page = LivePage::open(&config.learner, feed, access, watched)
        .await
        .expect("a free port")
        .expect("a page");
    let url = page.url();
    let port = url.strip_prefix("https://localhost:").expect("a URL");
    let port = port.trim_end_matches('/').parse().expect("a port");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = async |headers: String| {
        let stream = encrypted(address, &path).await;
        let headers = format!("Host: any.example\r\n{headers}");
        Answer::open(stream, "GET", "/events", &headers).await
    };
    let refused = ask(String::new()).await;
    assert_eq!(refused.status, 401);
    assert!(refused.headers.contains("www-authenticate: basic realm="));
    for (name, status) in [(file::VIEWER_TOKENS, 200), (file::ACTOR_TOKENS, 200)] {
        let tokens = token::read("a test", &path.join(name)).expect("a token");
        let header = format!("Authorization: Bearer {}\r\n", tokens[0].reveal());
        assert_eq!(ask(header).await.status, status, "{name}");
    }
    // A browser's user types the token as a password.
    let wrong = ask("Authorization: Basic bWU6d3Jvbmc=\r\n".to_owned()).await;
    assert_eq!(wrong.status, 401);

    let mut plain = TcpStream::connect(address).await.expect("a port");
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    plain.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "plaintext is not answered");
}
