//! Half an hour in which something goes wrong every few seconds: `make soak`. What a learner and an actor hold of
//! memory, threads and files must stay level all the while, and the frame accounting must balance at the end.
//!
//! Leaves `soak.csv` and `soak.svg` in `target/soak/`.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use hrm_learner::view::plot::{
    Unit,
    panels::{self, Line, Panel, Spot, SpreadForm},
};
use hrm_proto::v1::{SubscribeRequest, UnrollBatch, learner_client::LearnerClient};
use test_support::fleet::{ends_well, free_address, serve_four_rooms, start_actor};
use test_support::{
    PATIENCE, Player, Process, client, join, open_upload,
    relay::{Fault, Relay},
    status, until_status,
};
use tonic::transport::Channel;

/// From one trouble to the next, and from one look at the processes to the next.
const PAUSE: Duration = Duration::from_secs(5);

/// Peers of one trouble.
const CROWD: u64 = 20;

/// How much more memory may be held in the last sixth of the time than in the one before: what an allocator moves by.
/// Something that is kept of each unroll or of the dozens of sessions of that time would be more. The two thirds
/// before are left out: an allocator keeps what the largest piece of work took, and the largest, an evaluation, comes
/// rarely.
const MEMORY_SLACK_MB: f64 = 8.0;

/// The same for threads and files: one more of each trouble would be dozens.
const COUNT_SLACK: f64 = 4.0;

/// The resources of a process at a moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory_mb: f64,
    threads: f64,
    files: f64,
}

impl Held {
    fn by(process: &Process) -> Self {
        let proc = Path::new("/proc").join(process.id().to_string());
        let status = fs::read_to_string(proc.join("status")).expect("a living process");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number
                .and_then(|number| number.parse::<f64>().ok())
                .expect(name)
        };
        Self {
            memory_mb: field("VmRSS:") / 1024.0,
            threads: field("Threads:"),
            files: fs::read_dir(proc.join("fd")).expect("ours").count() as f64,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    minutes: f64,
    frames: u64,
    sessions: u32,
    learner: Held,
    actor: Held,
}

/// The faults, in turn.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// An actor is killed, and another started.
    Kill,
    /// Peers join and say nothing more.
    Joins,
    /// Peers join and send an unroll that is not of their session.
    FalseUnrolls,
    /// Peers join, follow the weights and are gone.
    Subscribers,
    /// Connections on which something else than HTTP/2 is spoken.
    Noise,
    /// The network of an actor fails.
    Network(Fault),
}

const TROUBLES: [Trouble; 9] = [
    Trouble::Kill,
    Trouble::Joins,
    Trouble::Network(Fault::Cut),
    Trouble::FalseUnrolls,
    Trouble::Network(Fault::HalfClose),
    Trouble::Subscribers,
    Trouble::Network(Fault::Corrupt(20_000)),
    Trouble::Noise,
    Trouble::Network(Fault::Partition),
];

/// Peers that are no actors of ours.
struct Strangers {
    client: LearnerClient<Channel>,
    address: SocketAddr,
    unroll: UnrollBatch,
    next: u64,
}

impl Strangers {
    async fn new(address: SocketAddr) -> Self {
        let mut client = client(address).await;
        let joined = join(&mut client, u64::MAX).await.expect("room");
        let unroll = Player::new(&joined).unroll(1);
        Self {
            client,
            address,
            unroll,
            next: 1,
        }
    }

    async fn make(&mut self, trouble: Trouble) {
        for _ in 0..CROWD {
            self.next += 1;
            match trouble {
                Trouble::Joins => drop(join(&mut self.client, self.next).await),
                Trouble::FalseUnrolls => {
                    let joined = join(&mut self.client, self.next).await.expect("room");
                    let (unrolls, mut acks) = open_upload(&mut self.client).await;
                    let unroll = UnrollBatch {
                        session: joined.session,
                        ..self.unroll.clone()
                    };
                    unrolls.send(unroll).await.expect("it listens");
                    while let Ok(Some(_)) = acks.message().await {}
                }
                Trouble::Subscribers => {
                    let session = join(&mut self.client, self.next)
                        .await
                        .expect("room")
                        .session;
                    let request = SubscribeRequest { session };
                    let weights = self.client.subscribe(request).await.expect("it joined");
                    weights.into_inner().message().await.expect("weights");
                }
                Trouble::Noise => {
                    let mut stream = TcpStream::connect(self.address).expect("it listens");
                    // It may hang up before the end.
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
                }
                Trouble::Kill | Trouble::Network(_) => {}
            }
        }
    }
}

/// The duration: `SOAK_MINUTES`, or half an hour.
fn length() -> Duration {
    let minutes = std::env::var("SOAK_MINUTES").unwrap_or_else(|_| "30".to_owned());
    let minutes: f64 = minutes.parse().expect("SOAK_MINUTES is a number");
    Duration::from_secs_f64(minutes * 60.0)
}

#[test]
#[ignore = "half an hour: make soak"]
fn held_memory_and_descriptors_stay_level() {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, address) = (folder.path().join("run"), free_address());
    let settings = [
        "learner.total_frames=1000000000",
        "rollout.synchronous=false",
        "learner.batch_unrolls=2",
        "checkpoint.interval_frames=10000",
    ];
    let learner = serve_four_rooms(&dir, address, &settings);
    let empty = Held::by(&learner);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let relay = runtime.block_on(Relay::start());
    relay.to(address);
    let (steady, relayed) = (start_actor(address), start_actor(relay.address));
    let mut dying = start_actor(address);
    steady.line("joined");

    let (began, length) = (Instant::now(), length());
    let mut samples = Vec::new();
    runtime.block_on(async {
        let mut strangers = Strangers::new(address).await;
        let mut watch = client(address).await;
        let mut pause = tokio::time::interval(PAUSE);
        for trouble in TROUBLES.iter().cycle() {
            pause.tick().await;
            let now = status(&mut watch).await;
            samples.push(Sample {
                minutes: began.elapsed().as_secs_f64() / 60.0,
                frames: now.frames,
                sessions: now.sessions,
                learner: Held::by(&learner),
                actor: Held::by(&steady),
            });
            if began.elapsed() >= length {
                break;
            }
            match trouble {
                Trouble::Kill => {
                    std::mem::replace(&mut dying, start_actor(address)).send("-KILL");
                }
                Trouble::Network(fault) => {
                    relay.set(*fault);
                    tokio::time::sleep(PAUSE).await;
                    relay.set(Fault::None);
                }
                trouble => strangers.make(*trouble).await,
            }
        }
        drop(strangers);
        for actor in [&steady, &relayed, &dying] {
            actor.send("-TERM");
        }
        until_status(&mut watch, "nobody is left", |s| s.sessions == 0).await;
    });
    // Connections that broke are given up within a minute.
    let deadline = Instant::now() + PATIENCE;
    while Held::by(&learner).files > empty.files + COUNT_SLACK && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
    let left = Held::by(&learner);
    write_down(&samples);
    println!("empty {empty:?}\nleft {left:?}\n{} samples", samples.len());

    learner.send("-TERM");
    ends_well(learner, vec![steady, relayed, dying], &dir);
    assert!(left.files <= empty.files + COUNT_SLACK, "{left:?}");
    assert!(samples.is_sorted_by_key(|sample| sample.frames));
    for (of, what, slack, value) in measures() {
        let (before, last) = (sixth(&samples, 4, value), sixth(&samples, 5, value));
        println!("{of}, {what}: {before:.1} in the sixth before the last, {last:.1} in the last");
        assert!(last <= before + slack, "{of}, {what}: {before} and {last}");
    }
}

type Value = fn(&Sample) -> f64;

/// What has to stay level, and within what.
fn measures() -> [(&'static str, &'static str, f64, Value); 7] {
    [
        ("learner", "memory, MB", MEMORY_SLACK_MB, |s| {
            s.learner.memory_mb
        }),
        ("actor", "memory, MB", MEMORY_SLACK_MB, |s| {
            s.actor.memory_mb
        }),
        ("learner", "threads", COUNT_SLACK, |s| s.learner.threads),
        ("actor", "threads", COUNT_SLACK, |s| s.actor.threads),
        ("learner", "open files", COUNT_SLACK, |s| s.learner.files),
        ("actor", "open files", COUNT_SLACK, |s| s.actor.files),
        ("learner", "sessions", CROWD as f64, |s| {
            f64::from(s.sessions)
        }),
    ]
}

/// The median over one sixth of the time.
fn sixth(samples: &[Sample], index: usize, value: Value) -> f64 {
    let size = samples.len() / 6;
    let mut values: Vec<f64> = samples[index * size..][..size].iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[size / 2]
}

fn write_down(samples: &[Sample]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/soak");
    fs::create_dir_all(&folder).expect("a folder");
    let mut csv = "minutes,frames,sessions".to_owned();
    for of in ["learner", "actor"] {
        write!(csv, ",{of}_memory_mb,{of}_threads,{of}_files").expect("text");
    }
    for sample in samples {
        let Sample {
            minutes,
            frames,
            sessions,
            learner,
            actor,
        } = sample;
        write!(csv, "\n{minutes:.2},{frames},{sessions}").expect("text");
        for held in [learner, actor] {
            let Held {
                memory_mb,
                threads,
                files,
            } = held;
            write!(csv, ",{memory_mb:.1},{threads},{files}").expect("text");
        }
    }
    csv.push('\n');
    fs::write(folder.join("soak.csv"), csv).expect("written");

    let line = |of: &str, value: Value| Line {
        name: of.to_owned(),
        spots: samples
            .iter()
            .map(|sample| {
                let value = value(sample);
                Spot {
                    x: sample.minutes,
                    median: value,
                    low: value,
                    high: value,
                }
            })
            .collect(),
    };
    let mut drawn: Vec<Panel> = Vec::new();
    for (of, what, _, value) in measures() {
        let lines = vec![line(of, value)];
        match drawn.iter_mut().find(|panel| panel.title == what) {
            Some(panel) => panel.lines.extend(lines),
            None => drawn.push(Panel {
                title: what.to_owned(),
                x_name: "minutes".to_owned(),
                x_unit: Unit::Minutes,
                y_unit: Unit::Count,
                form: SpreadForm::Band,
                lines,
                reference: None,
            }),
        }
    }
    let title = "What a learner and an actor hold while something goes wrong every few seconds";
    let svg = panels::svg(title, &drawn).expect("a picture");
    fs::write(folder.join("soak.svg"), svg).expect("written");
}
