//! Parts that tests over real sockets and real processes share.

pub mod fleet;
pub mod fuzz_targets;
pub mod ledger;
pub mod mazes;
pub mod native_library;
pub mod relay;

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use hrm_actor::{ActorOptions, Ending, rollout::Rollout};
use hrm_common::{
    checkpoint::{self, Checkpoint},
    config::{Config, Effective, Layers, Override, Spec},
    env::VecEnv,
    model::{Parameters, native::Lanes},
    policy::{Policy, thread_action_rng},
    shutdown::Shutdown,
    stage::{ActorStage, StageClock},
    telemetry::{
        self,
        names::{self, Role},
    },
    trajectory::RolloutId,
    wire,
};
use hrm_learner::run::{
    self, Running,
    progress::{Progress, Screen},
};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{
        JoinRequest, JoinResponse, StatusRequest, StatusResponse, UnrollBatch, UploadAck,
        learner_client::LearnerClient,
    },
};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// Longest time for any condition to become true. Only a test that fails reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Any free port of this machine.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The setting of a run that does not complete during a test.
pub const ENDLESS: (&str, &str) = ("learner.total_frames", "1000000000");

/// A run that takes a moment: a model of a few hundred parameters, 32 frames per batch.
pub const TINY: [(&str, &str); 22] = [
    ("model.hidden", "8"),
    ("model.inter_multiple", "8"),
    ("rollout.envs", "4"),
    ("rollout.unroll_length", "8"),
    ("actor.threads", "1"),
    ("actor.backoff_min_ms", "5"),
    ("actor.backoff_max_ms", "50"),
    ("actor.metrics_listen", ""),
    ("learner.listen", "127.0.0.1:0"),
    ("learner.metrics_listen", ""),
    ("learner.web_listen", ""),
    ("learner.local_actors", "1"),
    ("learner.threads", "1"),
    ("learner.batch_unrolls", "1"),
    ("learner.queue_unrolls", "2"),
    ("learner.farewell_seconds", "0"),
    ("learner.total_frames", "256"),
    ("loss.passes", "1"),
    ("loss.updates_per_batch", "2"),
    ("eval.interval_frames", "0"),
    ("eval.final_episodes", "8"),
    ("telemetry.log_format", "json"),
];

/// [`TINY`] with `more` on top, written to `dir`.
pub fn tiny(dir: &Path, more: &[(&str, &str)]) -> Effective {
    let dir = dir.display().to_string();
    let command_line = TINY
        .iter()
        .chain(&[("run.dir", dir.as_str())])
        .chain(more)
        .map(|(key, value)| Override::new("--set", *key, value))
        .collect();
    Config::load(&Layers {
        command_line,
        ..Layers::default()
    })
    .expect("a configuration")
}

/// A configuration of `configs/`, with `more` on top, written to `dir`.
pub fn shipped(name: &str, dir: &Path, more: &[(&str, &str)]) -> Effective {
    let dir = dir.display().to_string();
    let here = [
        ("run.dir", dir.as_str()),
        ("learner.listen", "127.0.0.1:0"),
        // However slow the machine.
        ("learner.max_minutes", "0"),
        ("eval.interval_frames", "0"),
    ];
    let command_line = here
        .iter()
        .chain(more)
        .map(|(key, value)| Override::new("--set", *key, value))
        .collect();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    Config::load(&Layers {
        file: Some(configs.join(name).with_extension("toml")),
        command_line,
        ..Layers::default()
    })
    .expect("a configuration")
}

/// [`TINY`] with `more` on top, as arguments of a program.
pub fn tiny_args(more: &[(&str, &str)]) -> Vec<String> {
    TINY.iter()
        .chain(more)
        .flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")])
        .collect()
}

/// The newest checkpoint of the run in `dir`.
pub fn newest(dir: &Path) -> Checkpoint {
    let path = checkpoint::find(dir).expect("a checkpoint");
    Checkpoint::read(&path).expect("a sound one")
}

/// Starts an actor of the learner at `url` in this process, and returns its end.
pub fn actor(config: &Config, url: String, stop: &Shutdown) -> JoinHandle<Ending> {
    let options = ActorOptions {
        learner: url,
        ..ActorOptions::new(config, "elsewhere".into())
    };
    let stop = stop.clone();
    tokio::spawn(async move { hrm_actor::run(options, stop).await.expect("nothing fatal") })
}

/// Starts a run in this process.
pub async fn start(effective: &Effective, resume: bool, shutdown: &Shutdown) -> Running {
    try_start(effective, resume, shutdown)
        .await
        .expect("a run that starts")
}

/// Starts a run in this process, or says why it cannot.
pub async fn try_start(
    effective: &Effective,
    resume: bool,
    shutdown: &Shutdown,
) -> anyhow::Result<Running> {
    let config = &effective.config;
    let screen = Screen::new(&config.telemetry);
    let progress = Progress::new(&screen, config);
    run::start(effective, resume, progress, shutdown.clone()).await
}

/// Looks again and again until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("this never happened: {what}"))
}

/// A client of the learner there.
pub async fn client(address: SocketAddr) -> LearnerClient<Channel> {
    LearnerClient::connect(format!("http://{address}"))
        .await
        .expect("a learner")
}

/// Returns the status of the learner's run.
pub async fn status(client: &mut LearnerClient<Channel>) -> StatusResponse {
    client
        .status(StatusRequest {})
        .await
        .expect("a status")
        .into_inner()
}

/// Waits until the learner's run is as `wanted`.
pub async fn until_status(
    client: &mut LearnerClient<Channel>,
    what: &str,
    wanted: impl Fn(&StatusResponse) -> bool,
) -> StatusResponse {
    until(what, async || Some(status(client).await).filter(&wanted)).await
}

/// Joins as an actor process of that id.
pub async fn join(
    client: &mut LearnerClient<Channel>,
    actor_id: u64,
) -> Result<JoinResponse, Status> {
    join_with_threads(client, actor_id, 1).await
}

/// Joins as an actor process of that id with so many rollout threads.
pub async fn join_with_threads(
    client: &mut LearnerClient<Channel>,
    actor_id: u64,
    threads: u32,
) -> Result<JoinResponse, Status> {
    let request = JoinRequest {
        actor_id,
        wire_major: WIRE_MAJOR,
        wire_minor: WIRE_MINOR,
        name: format!("test-{actor_id}"),
        threads,
    };
    Ok(client.join(request).await?.into_inner())
}

/// Opens an upload: where unrolls go in, and where acknowledgements come out.
pub async fn open_upload(
    client: &mut LearnerClient<Channel>,
) -> (tokio::sync::mpsc::Sender<UnrollBatch>, Streaming<UploadAck>) {
    let (unrolls, stream) = tokio::sync::mpsc::channel(1);
    let acks = client
        .upload(ReceiverStream::new(stream))
        .await
        .expect("an upload");
    (unrolls, acks.into_inner())
}

/// Plays real unrolls by hand.
pub struct Player {
    rollout: Rollout<VecEnv, Lanes>,
    clock: StageClock<ActorStage>,
}

impl Player {
    /// A player of what the learner asked this session to run, in its first thread.
    pub fn new(joined: &JoinResponse) -> Self {
        Self::from_thread(joined, 0)
    }

    /// A player in one of the session's threads.
    pub fn from_thread(joined: &JoinResponse, thread: u32) -> Self {
        let spec = Spec::from_json(&joined.spec).expect("a spec");
        let grid = spec.env.grid();
        let parameters = Parameters::new(&spec.model, grid, 0).expect("a model");
        let fingerprint = parameters.fingerprint();
        let lanes = Lanes::new(parameters, spec.rollout.envs);
        let rollout = Rollout::new(
            VecEnv::from_thread(&spec.env, spec.rollout.envs, joined.seed, thread).expect("mazes"),
            Policy::for_rollouts(lanes),
            thread_action_rng(joined.seed, thread),
            spec.unroll_shape(),
            spec.rollout.carry_dtype,
            RolloutId {
                session: joined.session,
                thread,
            },
            fingerprint,
        );
        Self {
            rollout,
            clock: StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait),
        }
    }

    /// The next unroll, as if played on the weights of `version`.
    pub fn unroll(&mut self, version: u64) -> UnrollBatch {
        let unroll = self.rollout.unroll(version, &mut self.clock, || false);
        wire::encode(&unroll.expect("nobody stops it"))
    }

    /// The next unroll again and again, numbered as a session's unrolls are: as fast as they can be sent.
    pub fn flood(mut self, version: u64) -> impl Iterator<Item = UnrollBatch> {
        let unroll = self.rollout.unroll(version, &mut self.clock, || false);
        let mut unroll = unroll.expect("nobody stops it");
        std::iter::from_fn(move || {
            let message = wire::encode(&unroll);
            unroll.sequence += 1;
            Some(message)
        })
    }
}

/// Returns the text of this process's `/metrics`. The first call switches recording on.
pub fn scrape() -> String {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    let address = *ADDRESS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        // A runtime of its own: those of the tests come and go.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let roles = [Role::Learner, Role::Actor];
                let (listen, key) = (Some(ANY_PORT), "learner.metrics_listen");
                let exporter = telemetry::serve_metrics(listen, key, &roles).await;
                let exporter = exporter.expect("an endpoint").expect("an address");
                sender.send(exporter.address()).expect("someone waits");
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().expect("an address")
    });
    get(address, "/metrics")
}

/// The value of a metric of this process, labels included in its name; 0 when it is not there.
pub fn metric(name: &str) -> f64 {
    let page = scrape();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// An HTTP GET.
pub fn get(address: SocketAddr, path: &str) -> String {
    try_get(address, path).expect("an answer")
}

/// An HTTP GET that may be turned away.
pub fn try_get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A program of ours, without the environment's own configuration, and with the hangups that these tests may have been
/// started to ignore.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HRM__") {
            command.env_remove(name);
        }
    }
    command
}

/// The path of one of our programs, which cargo builds beside the folder of the tests.
///
/// # Panics
///
/// When it has not been built.
pub fn program(name: &str) -> PathBuf {
    built(Path::new(name))
}

/// The path of one of the programs in `examples/`.
///
/// # Panics
///
/// When it has not been built.
pub fn example(name: &str) -> PathBuf {
    built(&Path::new("examples").join(name))
}

fn built(name: &Path) -> PathBuf {
    let test = std::env::current_exe().expect("this test's program");
    let folder = test.parent().and_then(Path::parent);
    let program = folder.expect("target/PROFILE/deps").join(name);
    assert!(
        program.exists(),
        "{} is missing: cargo build --workspace --bins --examples",
        program.display()
    );
    program
}

/// The address that a log line names.
pub fn address_in(line: &serde_json::Value) -> SocketAddr {
    let address = line["address"].as_str().expect("an address");
    address.parse().expect("an address")
}

/// A process whose log is followed line by line. Killed when dropped.
pub struct Process {
    child: Child,
    log: mpsc::Receiver<serde_json::Value>,
}

impl Process {
    /// Starts it; its log lines must be JSON.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let stderr = child.stderr.take().expect("its log");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || follow(stderr, &sender));
        Self { child, log }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next log line with this message.
    pub fn line(&self, message: &str) -> serde_json::Value {
        let mut others = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line
                .unwrap_or_else(|e| panic!("it never said {message:?}: {e}; it said {others:#?}"));
            if line["message"] == message {
                return line;
            }
            others.push(line);
        }
    }

    /// Everything else that it says, until its end.
    pub fn rest(&mut self) -> Vec<serde_json::Value> {
        let mut said = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            said.push(line);
        }
        said
    }

    /// Sends it a signal, such as `-TERM`.
    pub fn send(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill");
        assert!(sent.success(), "{signal}");
    }

    /// Waits for its end: its status and its standard output.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut output = String::new();
        let stdout = self.child.stdout.as_mut().expect("its output");
        stdout.read_to_string(&mut output).expect("text");
        (self.child.wait().expect("its status"), output)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stderr: ChildStderr, log: &mpsc::Sender<serde_json::Value>) {
    for line in BufReader::new(stderr).lines() {
        let line = line.expect("text");
        let line =
            serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({ "message": line }));
        // The test that started the process may have seen enough of it.
        let _ = log.send(line);
    }
}
