//! Who may talk to a learner, over real sockets: certificates, tokens, roles.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
};

use hrm_actor::{
    ActorOptions, Ending, SessionError,
    connect::{Credentials, TokenSource},
};
use hrm_common::{config::Effective, descriptors::Descriptors, health, shutdown::Shutdown, token};
use hrm_learner::{
    run::Running,
    transport::certs::{self, file},
};
use hrm_proto::v1::{StatusRequest, SubscribeRequest, learner_client::LearnerClient};
use test_support::{
    ENDLESS, Process, address_in, command, join, start, status, tiny, tiny_args, try_start,
    until_status,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Settings of a learner and an actor that use everything in `folder`.
fn settings(folder: &Path) -> Vec<(&'static str, String)> {
    let at = |name: &str| folder.join(name).display().to_string();
    vec![
        ("learner.tls_certificate", at(file::LEARNER)),
        ("learner.tls_private_key", at(file::LEARNER_KEY)),
        ("learner.tls_client_ca", at(file::CA)),
        ("learner.actor_tokens_file", at(file::ACTOR_TOKENS)),
        ("learner.viewer_tokens_file", at(file::VIEWER_TOKENS)),
        ("actor.learner", "https://127.0.0.1:1".to_owned()),
        ("actor.tls_ca", at(file::CA)),
        ("actor.tls_certificate", at(file::ACTOR)),
        ("actor.tls_private_key", at(file::ACTOR_KEY)),
        ("actor.token_file", at(file::ACTOR_TOKENS)),
    ]
}

fn secured(dir: &Path, certs: &Path, more: &[(&str, &str)]) -> Effective {
    let settings = settings(certs);
    let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
    tiny(
        dir,
        &settings.chain(more.iter().copied()).collect::<Vec<_>>(),
    )
}

/// A learner that trains until it is stopped.
struct Waiting {
    running: Running,
    shutdown: Shutdown,
}

impl Waiting {
    async fn start(config: &Effective) -> Self {
        let shutdown = Shutdown::new();
        let running = start(config, false, &shutdown).await;
        Self { running, shutdown }
    }

    async fn stop(self) {
        self.shutdown.trip();
        self.running.finish().await.expect("it stops");
    }
}

fn made(folder: &Path) -> std::path::PathBuf {
    let certs = folder.join("certs");
    certs::make(&certs, &[], 1).expect("certificates");
    certs
}

/// A connection that trusts the authority in `ca` and shows the actors' certificate in `identity`, if any.
async fn connect(
    address: SocketAddr,
    ca: &Path,
    identity: Option<&Path>,
) -> Result<Channel, transport::Error> {
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).expect(name);
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca, file::CA)));
    if let Some(folder) = identity {
        let (certificate, key) = (read(folder, file::ACTOR), read(folder, file::ACTOR_KEY));
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Endpoint::from_shared(format!("https://{address}"))
        .expect("a URL")
        .tls_config(tls)?
        .connect()
        .await
}

/// Whether someone is at the other end who lets this one in: TLS 1.3 lets a client begin before the server has looked
/// at its certificate.
async fn healthy(channel: &Channel) -> bool {
    let request = HealthCheckRequest::default();
    let health = HealthClient::new(channel.clone()).check(request).await;
    health.is_ok()
}

type Client = LearnerClient<
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>,
>;

fn client(channel: Channel, token: Option<&Path>) -> Client {
    let header: Option<MetadataValue<Ascii>> = token.map(|path| {
        let tokens = token::read("a test", path).expect("a token");
        let header = format!("Bearer {}", tokens[0].reveal());
        header.parse().expect("a header")
    });
    LearnerClient::with_interceptor(
        channel,
        Box::new(move |mut request: Request<()>| {
            if let Some(header) = &header {
                request
                    .metadata_mut()
                    .insert("authorization", header.clone());
            }
            Ok(request)
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_elsewhere_and_in_the_process_train_through_certificates_and_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let config = secured(
        &folder.path().join("run"),
        &certs,
        &[
            ("learner.batch_unrolls", "2"),
            ("learner.total_frames", "512"),
        ],
    );
    let running = start(&config, false, &Shutdown::new()).await;
    let options = ActorOptions {
        learner: format!("https://{}", running.address()),
        ..ActorOptions::new(&config.config, "elsewhere".into())
    };
    let outcome = tokio::spawn(hrm_actor::run(options, Shutdown::new()));
    let summary = running.finish().await.expect("a run that ends");
    assert!(summary.complete);
    let outcome = outcome.await.expect("no panic").expect("it was let in");
    assert_eq!(outcome, Ending::RunComplete);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_may_do_what_its_token_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let config = secured(
        &folder.path().join("run"),
        &certs,
        &[ENDLESS, ("learner.local_actors", "0")],
    );
    let learner = Waiting::start(&config).await;
    let channel = connect(learner.running.address(), &certs, Some(&certs))
        .await
        .expect("let in");
    let token = |name: &str| certs.join(name);

    let mut nobody = client(channel.clone(), None);
    let mut viewer = client(channel.clone(), Some(&token(file::VIEWER_TOKENS)));
    let mut actor = client(channel.clone(), Some(&token(file::ACTOR_TOKENS)));
    for (client, on_status, on_subscribe) in [
        (
            &mut nobody,
            Err(Code::Unauthenticated),
            Code::Unauthenticated,
        ),
        (&mut viewer, Ok(()), Code::PermissionDenied),
        // It is heard, and then told that it has not joined.
        (&mut actor, Ok(()), Code::FailedPrecondition),
    ] {
        let answer = client.status(StatusRequest {}).await;
        assert_eq!(answer.map(drop).map_err(|s| s.code()), on_status);
        let request = SubscribeRequest { session: 1 };
        let refused = client.subscribe(request).await.expect_err("no session");
        assert_eq!(refused.code(), on_subscribe);
    }
    let request = HealthCheckRequest::default();
    let health = HealthClient::new(channel).check(request).await;
    health.expect("health is for everyone");

    // A changed token counts from the next look at the file, and the old one no more.
    let other = token("other");
    fs::write(&other, "another-token-0123456789abcdef\n").expect("a file");
    let channel = connect(learner.running.address(), &certs, Some(&certs))
        .await
        .expect("let in");
    let mut changed = client(channel, Some(&other));
    let refused = changed.status(StatusRequest {}).await.expect_err("unknown");
    assert_eq!(refused.code(), Code::Unauthenticated);
    fs::rename(&other, token(file::ACTOR_TOKENS)).expect("renamed");
    learner.running.credentials().refresh();
    changed.status(StatusRequest {}).await.expect("known now");
    let refused = actor.status(StatusRequest {}).await.expect_err("taken out");
    assert_eq!(refused.code(), Code::Unauthenticated);

    drop((nobody, viewer, actor, changed));
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_certificate_of_the_authority_are_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let strangers = made(&folder.path().join("strangers"));
    let config = secured(
        &folder.path().join("run"),
        &certs,
        &[ENDLESS, ("learner.local_actors", "0")],
    );
    let learner = Waiting::start(&config).await;
    let heard = async |channel: Result<Channel, transport::Error>| match channel {
        Ok(channel) => healthy(&channel).await,
        Err(_) => false,
    };
    let address = learner.running.address();
    assert!(heard(connect(address, &certs, Some(&certs)).await).await);
    assert!(!heard(connect(address, &certs, None).await).await, "none");
    assert!(
        !heard(connect(address, &certs, Some(&strangers)).await).await,
        "a stranger's"
    );
    assert!(
        !heard(connect(address, &strangers, Some(&certs)).await).await,
        "not who it expects"
    );
    let plain = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    assert!(!heard(plain.connect().await).await, "plaintext");

    // An actor that does not know this learner keeps trying, and says why.
    let credentials = Credentials {
        ca: Some(strangers.join(file::CA)),
        ..Credentials::new(&config.config.actor)
    };
    let options = ActorOptions {
        learner: format!("https://{address}"),
        credentials,
        ..ActorOptions::new(&config.config, "suspicious".into())
    };
    let stop = Shutdown::new();
    let actor = tokio::spawn(hrm_actor::run(options, stop.clone()));
    test_support::until("it tries again", async || {
        (test_support::metric("hrm_actor_reconnects_total") >= 2.0).then_some(())
    })
    .await;
    stop.trip();
    let outcome = actor.await.expect("no panic").expect("not fatal");
    assert_eq!(outcome, Ending::Stopped);

    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_use_the_reloaded_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    let [live, old, new] = ["live", "old", "new"].map(|name| folder.path().join(name));
    for authority in [&old, &new] {
        certs::make(authority, &[], 1).expect("certificates");
    }
    let put = |from: &Path, name: &str| {
        fs::copy(from.join(name), live.join(name)).expect(name);
    };
    let put_live = |learner: &Waiting, name: &str| {
        put(&new, name);
        learner.running.credentials().refresh();
    };
    fs::create_dir(&live).expect("a folder");
    for entry in fs::read_dir(&old).expect("a folder") {
        put(&old, &entry.expect("a file").file_name().to_string_lossy());
    }
    let config = secured(
        &folder.path().join("run"),
        &live,
        &[ENDLESS, ("learner.local_actors", "0")],
    );
    let learner = Waiting::start(&config).await;
    let address = learner.running.address();
    let let_in = async |ca: &Path, identity: &Path| match connect(address, ca, Some(identity)).await
    {
        Ok(channel) => healthy(&channel).await,
        Err(_) => false,
    };
    let before = connect(address, &old, Some(&old)).await.expect("let in");
    assert!(healthy(&before).await && !let_in(&new, &old).await);

    put_live(&learner, file::LEARNER);
    assert!(let_in(&old, &old).await, "its key is not there yet");
    put_live(&learner, file::LEARNER_KEY);
    assert!(let_in(&new, &old).await && !let_in(&old, &old).await);
    put_live(&learner, file::CA);
    assert!(let_in(&new, &new).await && !let_in(&new, &old).await);
    assert!(healthy(&before).await, "who is in stays in");

    drop(before);
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_out_ends_what_was_joined_by_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let config = secured(
        &folder.path().join("run"),
        &certs,
        &[ENDLESS, ("learner.local_actors", "0")],
    );
    let learner = Waiting::start(&config).await;
    let own = folder.path().join("token-of-the-actor");
    fs::copy(certs.join(file::ACTOR_TOKENS), &own).expect("copied");
    let credentials = Credentials {
        token: Some(TokenSource::File(own.clone())),
        ..Credentials::new(&config.config.actor)
    };
    let options = ActorOptions {
        learner: format!("https://{}", learner.running.address()),
        credentials,
        ..ActorOptions::new(&config.config, "elsewhere".into())
    };
    let stop = Shutdown::new();
    let actor = tokio::spawn(hrm_actor::run(options, stop.clone()));
    let channel = connect(learner.running.address(), &certs, Some(&certs))
        .await
        .expect("let in");
    let mut viewer = client(channel, Some(&certs.join(file::VIEWER_TOKENS)));
    let sessions = async |viewer: &mut Client, wanted: u32| {
        test_support::until("so many sessions", async || {
            let status = viewer.status(StatusRequest {}).await.expect("a status");
            (status.into_inner().sessions == wanted).then_some(())
        })
        .await;
    };
    sessions(&mut viewer, 1).await;
    let fresh = folder.path().join("fresh");
    fs::write(&fresh, "another-token-0123456789abcdef\n").expect("a file");
    fs::copy(&fresh, certs.join(file::ACTOR_TOKENS)).expect("copied");
    sessions(&mut viewer, 0).await;
    fs::copy(&fresh, &own).expect("copied");
    sessions(&mut viewer, 1).await;

    stop.trip();
    let outcome = actor.await.expect("no panic").expect("it was let in again");
    assert_eq!(outcome, Ending::Stopped);
    drop(viewer);
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_ends_the_start_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let config = secured(&folder.path().join("run"), &certs, &[]);
    fs::write(certs.join(file::ACTOR_TOKENS), "short\n").expect("a file");
    let error = try_start(&config, false, &Shutdown::new())
        .await
        .expect_err("no token");
    let message = format!("{error:#}");
    for part in ["learner.actor_tokens_file", "line 1", "remedy: "] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("short"), "{message}");
    let options = ActorOptions::new(&config.config, "actor".into());
    let error = hrm_actor::run(options, Shutdown::new())
        .await
        .expect_err("no token");
    assert!(matches!(error, SessionError::File(_)), "{error}");
    assert!(error.to_string().contains("actor.token_file"), "{error}");
}

/// Everything that a learner and an actor print, serve and leave behind, at the most talkative log level.
#[test]
fn no_output_and_no_file_shows_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let run_dir = folder.path().join("run");
    let dir = run_dir.display().to_string();
    let settings = settings(&certs);
    let mut all: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
    all.extend([
        ENDLESS,
        ("run.dir", &dir),
        ("telemetry.log_level", "trace"),
        ("learner.metrics_listen", "127.0.0.1:0"),
    ]);
    let mut secrets: Vec<String> = Vec::new();
    for name in [file::ACTOR_TOKENS, file::VIEWER_TOKENS] {
        let tokens = token::read("a test", &certs.join(name)).expect("a token");
        secrets.push(tokens[0].reveal().to_owned());
    }
    for name in [file::CA_KEY, file::LEARNER_KEY, file::ACTOR_KEY] {
        let pem = fs::read_to_string(certs.join(name)).expect("a key");
        // A line of what is between the first and the last one.
        secrets.push(pem.lines().nth(1).expect("a key's line").to_owned());
    }
    let sealed = |what: &str, text: &str| {
        for secret in &secrets {
            assert!(!text.contains(secret), "{what} shows a secret");
        }
    };

    let learner = env!("CARGO_BIN_EXE_hrm-learner");
    let mut args = tiny_args(&all);
    args.splice(0..0, ["train".to_owned()]);
    let mut process = Process::start(command(learner).args(&args));
    let metrics = address_in(&process.line("serving /metrics"));
    let address = address_in(&process.line("training"));

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let channel = connect(address, &certs, Some(&certs))
            .await
            .expect("let in");
        let mut wrong = client(channel.clone(), None);
        let refused = wrong.status(StatusRequest {}).await.expect_err("no token");
        sealed("a refusal", &format!("{refused:?}"));
        let mut viewer = client(channel, Some(&certs.join(file::VIEWER_TOKENS)));
        test_support::until("it trains", async || {
            let status = viewer.status(StatusRequest {}).await.expect("a status");
            (status.into_inner().frames > 0).then_some(())
        })
        .await;
    });
    let page = test_support::get(metrics, "/metrics");
    assert!(
        page.contains("hrm_learner_calls_refused_total{reason=\"unauthenticated\"} 1"),
        "{page}"
    );
    sealed("/metrics", &page);
    process.send("-TERM");
    let log = process
        .rest()
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    sealed("the log", &log);
    let (status, output) = process.end();
    assert!(status.success(), "{status}");
    sealed("the output", &output);
    for name in ["config.toml", "run.json", "metrics.jsonl", "ledger.jsonl"] {
        sealed(name, &fs::read_to_string(run_dir.join(name)).expect(name));
    }

    let mut args = tiny_args(&all);
    args.splice(0..0, ["config".to_owned(), "--print".to_owned()]);
    let printed = command(learner).args(&args).output().expect("it runs");
    assert!(printed.status.success());
    sealed("config --print", &String::from_utf8_lossy(&printed.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_actors_join_as_the_learner_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(
        folder.path(),
        &[
            ENDLESS,
            ("learner.local_actors", "0"),
            ("learner.max_sessions", "2"),
        ],
    );
    let learner = Waiting::start(&config).await;
    let mut client = test_support::client(learner.running.address()).await;
    for actor in [1, 2] {
        join(&mut client, actor).await.expect("room");
    }
    let refused = join(&mut client, 3).await.expect_err("no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("learner.max_sessions"),
        "{refused}"
    );
    assert_eq!(status(&mut client).await.sessions, 2);
    drop(client);
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_without_a_session_are_limited_in_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(
        folder.path(),
        &[
            ENDLESS,
            ("learner.local_actors", "0"),
            ("learner.max_sessions", "2"),
        ],
    );
    let learner = Waiting::start(&config).await;
    let mut client = test_support::client(learner.running.address()).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(test_support::open_upload(&mut client).await);
    }
    let (_unrolls, stream) = tokio::sync::mpsc::channel(1);
    let refused = client.upload(ReceiverStream::new(stream)).await;
    let refused = refused.expect_err("no room");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("4 uploads"), "{refused}");
    drop(open);
    test_support::until("room again", async || {
        let (_unrolls, stream) = tokio::sync::mpsc::channel(1);
        client.upload(ReceiverStream::new(stream)).await.ok()
    })
    .await;
    drop(client);
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_per_connection_and_bytes_of_headers_are_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(folder.path(), &[ENDLESS, ("learner.local_actors", "0")]);
    let learner = Waiting::start(&config).await;
    let mut client = test_support::client(learner.running.address()).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(test_support::open_upload(&mut client).await);
    }
    // One more waits for one of them to end.
    let mut ninth = client.clone();
    let ninth = tokio::spawn(async move { ninth.status(StatusRequest {}).await });
    let mut other = test_support::client(learner.running.address()).await;
    for _ in 0..20 {
        status(&mut other).await;
    }
    assert!(!ninth.is_finished());
    open.pop();
    ninth.await.expect("no panic").expect("its turn");

    let mut request = Request::new(StatusRequest {});
    let long = "x".repeat(17 << 10).parse().expect("a header");
    request.metadata_mut().insert("long", long);
    other.status(request).await.expect_err("too long");
    drop((open, client, other));
    learner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_does_not_begin_with_a_file_that_is_no_certificate_or_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let certs = made(folder.path());
    let config = secured(&folder.path().join("run"), &certs, &[]);
    for (name, key) in [
        (file::CA, "actor.tls_ca"),
        (file::ACTOR, "actor.tls_certificate"),
        (file::ACTOR_KEY, "actor.tls_private_key"),
    ] {
        let whole = fs::read(certs.join(name)).expect(name);
        fs::write(certs.join(name), "not PEM").expect("a file");
        let options = ActorOptions::new(&config.config, "elsewhere".into());
        let error = hrm_actor::run(options, Shutdown::new())
            .await
            .expect_err("unusable");
        assert!(matches!(error, SessionError::File(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(key) && message.contains("remedy: "),
            "{message}"
        );
        fs::write(certs.join(name), whole).expect("a file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_closed_and_the_next_finds_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = tiny(
        folder.path(),
        &[
            ENDLESS,
            ("learner.local_actors", "0"),
            ("learner.max_connections", "1"),
        ],
    );
    let learner = Waiting::start(&config).await;
    let mut first = test_support::client(learner.running.address()).await;
    until_status(&mut first, "it answers", |_| true).await;
    let url = format!("http://{}", learner.running.address());
    let connected = LearnerClient::connect(url.clone()).await;
    let heard = match connected {
        Ok(mut second) => second.status(StatusRequest {}).await.is_ok(),
        Err(_) => false,
    };
    assert!(!heard, "there is room for one");
    drop(first);
    test_support::until("room again", async || {
        let mut next = LearnerClient::connect(url.clone()).await.ok()?;
        next.status(StatusRequest {}).await.ok()
    })
    .await;
    learner.stop().await;
}

/// Idle connections, which stay open as long as this is kept.
fn idle(address: SocketAddr) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect(address).expect("a listener");
    (0..300).map(connect).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_descriptors_from_neither_checkpoints_nor_actors() {
    // This process holds the other ends.
    Descriptors::from_process().expect("a limit");
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("run").display().to_string();
    let settings = [
        ENDLESS,
        ("run.dir", dir.as_str()),
        ("learner.metrics_listen", "127.0.0.1:0"),
        ("learner.health_listen", "127.0.0.1:0"),
        ("checkpoint.interval_frames", "256"),
    ];
    let limited = [
        "-c",
        "ulimit -n 256 && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_hrm-learner"),
        "train",
    ];
    let mut learner = Process::start(command("sh").args(limited).args(tiny_args(&settings)));
    let metrics = address_in(&learner.line("serving /metrics"));
    let bound = learner.line(
        "learner.max_connections is out of reach: the limit for open files (ulimit -n) is too low for it and for what \
         is kept for checkpoints",
    );
    let bound = bound["connections"].as_u64().expect("a number");
    let health = address_in(&learner.line("serving health"));
    let main = address_in(&learner.line("training"));
    assert!((32..200).contains(&bound), "{bound}");

    let mut actor = test_support::client(main).await;
    let before = until_status(&mut actor, "it trains", |status| status.frames > 0).await;
    let idle = [idle(main), idle(metrics), idle(health)];
    let page = test_support::until("a scrape", async || {
        let page = test_support::try_get(metrics, "/metrics").ok()?;
        page.contains("hrm_learner_run_frames").then_some(page)
    })
    .await;
    let value = |page: &str, name: &str| -> f64 {
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect(name).trim().parse().expect("a number")
    };
    test_support::until("a probe", async || {
        health::check(health, health::LEARNER).await.ok()
    })
    .await;
    test_support::until("a new actor", async || {
        let mut next = LearnerClient::connect(format!("http://{main}"))
            .await
            .ok()?;
        next.status(StatusRequest {}).await.ok()
    })
    .await;
    let saved = value(&page, "hrm_learner_checkpoint_frames");
    let later = test_support::until("another checkpoint", async || {
        let page = test_support::try_get(metrics, "/metrics").ok()?;
        (value(&page, "hrm_learner_checkpoint_frames") > saved).then_some(page)
    })
    .await;
    until_status(&mut actor, "it trains on", |status| {
        status.frames > before.frames
    })
    .await;
    for file in ["checkpoint", "metrics", "ledger"] {
        let failures = format!("hrm_learner_write_failures_total{{file=\"{file}\"}}");
        assert_eq!(value(&later, &failures), 0.0, "{file}");
    }
    drop(idle);

    learner.send("-TERM");
    for line in learner.rest() {
        assert_ne!(line["message"], "cannot accept connections", "{line}");
        assert_ne!(line["level"], "ERROR", "{line}");
    }
}
