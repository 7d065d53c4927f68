//! Real processes, killed, frozen and cut off: `make chaos`. Long, so not part of `make test`.
//!
//! Each of these ends with a complete run and a balanced frame accounting.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hrm_common::checkpoint::{self, Checkpoint};
use hrm_learner::storage::{ledger_file::Entry, records::WalkBy, summary::Summary};
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use test_support::fleet::{ends_well, free_address, serve_four_rooms, start_actor};
use test_support::{
    ENDLESS, Process, address_in, client, command, ledger,
    relay::{Fault, Relay},
    tiny_args, until, until_status,
};

/// Time for which an actor stays frozen after it was given up.
const FROZEN: Duration = Duration::from_secs(120);

/// Frames between two checkpoints, and of a batch of the runs here.
const INTERVAL: u64 = 128;
const BATCH: u64 = 32;

/// Frames of a batch of two actors on four rooms.
const FOUR_ROOMS_BATCH: u64 = 1_024;

/// A model that ends its decisions by chance, so that unrolls also hold the log-probabilities of their segments.
const HALTS: [(&str, &str); 2] = [
    ("model.halt_head", "true"),
    (
        "model.segments",
        "{ least = 1, most = 3, halt = \"policy\" }",
    ),
];

struct Learner<'a> {
    dir: &'a Path,
    address: SocketAddr,
    more: Vec<(&'a str, &'a str)>,
}

impl Learner<'_> {
    /// Starts it where it stopped; with the address of its metrics.
    fn serving(&self) -> (Process, SocketAddr) {
        self.serving_with(|_| {})
    }

    /// The same, with something else about the process.
    fn serving_with(&self, adjust: impl FnOnce(&mut Command)) -> (Process, SocketAddr) {
        let (dir, address) = (self.dir.display().to_string(), self.address.to_string());
        let interval = INTERVAL.to_string();
        let mut settings = vec![
            ("run.dir", dir.as_str()),
            ("learner.listen", address.as_str()),
            ("learner.local_actors", "0"),
            ("learner.metrics_listen", "127.0.0.1:0"),
            ("checkpoint.interval_frames", interval.as_str()),
        ];
        settings.extend(&self.more);
        let mut args = vec!["serve".to_owned(), "--resume".to_owned()];
        args.extend(tiny_args(&settings));
        let mut command = command(env!("CARGO_BIN_EXE_hrm-learner"));
        adjust(command.args(&args));
        let process = Process::start(&mut command);
        let metrics = address_in(&process.line("serving /metrics"));
        process.line("training");
        (process, metrics)
    }

    /// As [`Learner::serving`], for those who ask it nothing.
    fn start(&self) -> Process {
        self.serving().0
    }
}

/// Waits until the learner there has trained on `frames` more than when it was first asked; the version then.
async fn trains_on(address: SocketAddr, frames: u64) -> u64 {
    let mut learner = client(address).await;
    let now = until_status(&mut learner, "it answers", |_| true)
        .await
        .frames;
    let later = until_status(&mut learner, "it trains", |s| s.frames >= now + frames).await;
    later.version
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// The newest checkpoint must be sound and no older than `before`.
fn newest(dir: &Path, before: u64) -> u64 {
    let Ok(path) = checkpoint::find(dir) else {
        assert_eq!(before, 0, "the checkpoints are gone");
        return 0;
    };
    let checkpoint = Checkpoint::read(&path).unwrap_or_else(|e| panic!("{e}"));
    let frames = checkpoint.state.frames;
    assert!(
        frames >= before,
        "{frames} frames, and {before} were saved before"
    );
    frames
}

#[test]
#[ignore = "long: make chaos"]
fn a_learner_killed_a_hundred_times_loses_no_more_than_one_interval_each_time() {
    const KILLS: usize = 100;
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let learner = Learner {
        dir,
        address: free_address(),
        more: vec![ENDLESS],
    };
    let actors = vec![start_actor(learner.address), start_actor(learner.address)];
    let (mut saved, mut versions) = (0, Vec::new());
    for kill in 0..KILLS {
        let process = learner.start();
        // Some die before they have trained at all, some in the middle of a checkpoint.
        let version = runtime().block_on(async {
            let version = match kill % 4 {
                0 => {
                    until_status(&mut client(learner.address).await, "it answers", |_| true)
                        .await
                        .version
                }
                // Anywhere between two checkpoints, however fast the machine is.
                _ => trains_on(learner.address, rng.random_range(INTERVAL..3 * INTERVAL)).await,
            };
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
            version
        });
        process.send("-KILL");
        let (status, _) = process.end();
        assert!(!status.success());
        let before = saved;
        saved = newest(dir, before);
        if let Some(last) = versions.last() {
            assert!(version > *last, "version {version} after {last}");
        }
        versions.push(version);
    }
    // Each start books what the one before had trained and not saved.
    let total = (saved + 4 * INTERVAL).to_string();
    let last = Learner {
        more: vec![("learner.total_frames", &total)],
        ..learner
    };
    ends_well(last.start(), actors, dir);
    let rolled_back: Vec<(u64, u64)> = ledger::balanced(dir)
        .iter()
        .filter_map(|entry| match entry {
            Entry::RolledBack {
                frames, checkpoint, ..
            } => Some((*frames, *checkpoint)),
            Entry::Session { .. } => None,
        })
        .collect();
    println!(
        "{} of {KILLS} kills rolled back: {rolled_back:?}",
        rolled_back.len()
    );
    assert!(rolled_back.len() > KILLS / 4, "most kills cost something");
    for (frames, checkpoint) in rolled_back {
        assert!(
            frames <= INTERVAL + BATCH,
            "{frames} frames after {checkpoint}"
        );
    }
}

#[test]
#[ignore = "long: make chaos"]
fn actors_killed_one_after_the_other_do_not_stop_training() {
    const KILLS: usize = 30;
    for (synchronous, model) in [("false", &HALTS[..]), ("true", &[])] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        let mut learner = Learner {
            dir,
            address: free_address(),
            more: vec![
                ENDLESS,
                ("rollout.synchronous", synchronous),
                ("learner.batch_unrolls", "3"),
                ("learner.queue_unrolls", "3"),
            ],
        };
        learner.more.extend(model);
        let process = learner.start();
        let mut actors: Vec<Process> = (0..3).map(|_| start_actor(learner.address)).collect();
        for kill in 0..KILLS {
            runtime().block_on(trains_on(learner.address, 5 * 3 * BATCH));
            let dying = std::mem::replace(&mut actors[kill % 3], start_actor(learner.address));
            dying.send("-KILL");
            dying.end();
        }
        let frames = runtime().block_on(async {
            let mut learner = client(learner.address).await;
            let status = until_status(&mut learner, "three are left", |s| s.sessions == 3).await;
            status.frames
        });
        process.send("-TERM");
        assert!(process.end().0.success());
        let total = (frames + 40 * BATCH).to_string();
        learner.more[0] = ("learner.total_frames", &total);
        let process = learner.start();
        ends_well(process, actors, dir);
        let sessions = ledger::balanced_sessions(dir);
        assert!(sessions.len() >= KILLS + 3, "{} sessions", sessions.len());
    }
}

/// Returns the count of a process under this name; 0 before the first.
fn counted(metrics: SocketAddr, name: &str) -> u64 {
    let page = test_support::get(metrics, "/metrics");
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// Unrolls that an actor has sent, by its own count.
fn sent(metrics: SocketAddr) -> u64 {
    counted(metrics, "hrm_actor_unrolls_sent_total")
}

/// Times it lost its learner.
fn lost(metrics: SocketAddr) -> u64 {
    counted(metrics, "hrm_actor_reconnects_total")
}

#[test]
#[ignore = "long: make chaos"]
fn a_network_that_fails_in_every_way_loses_no_valid_unroll() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let learner = Learner {
        dir,
        address: free_address(),
        more: vec![ENDLESS],
    };
    let process = learner.start();
    runtime().block_on(async {
        let relay = Relay::start().await;
        relay.to(learner.address);
        let (through, direct) = (start_actor(relay.address), start_actor(learner.address));
        let metrics = address_in(&through.line("serving /metrics"));
        let mut status = client(learner.address).await;
        until_status(&mut status, "both are there", |s| s.sessions == 2).await;
        for fault in [
            Fault::Delay(Duration::from_millis(100)),
            Fault::Throttle(20_000),
            Fault::Cut,
            Fault::HalfClose,
            Fault::Corrupt(5_000),
            Fault::Partition,
        ] {
            println!("{fault:?}");
            let lost_before = lost(metrics);
            relay.set(fault);
            // The actor that is not behind it continues all the while.
            trains_on(learner.address, 100 * BATCH).await;
            if fault == Fault::Partition {
                // So long that it is given up.
                until_status(&mut status, "one is left", |s| s.sessions == 1).await;
            }
            if !matches!(fault, Fault::Delay(_) | Fault::Throttle(_)) {
                until("the actor behind it notices", async || {
                    (lost(metrics) > lost_before).then_some(())
                })
                .await;
            }
            relay.set(Fault::None);
            let before = sent(metrics);
            until("the actor behind it is back at work", async || {
                (sent(metrics) > before + 3).then_some(())
            })
            .await;
        }
        until_status(&mut status, "both are there", |s| s.sessions == 2).await;
        direct.send("-TERM");
        through.send("-TERM");
        assert!(direct.end().0.success() && through.end().0.success());
        until_status(&mut status, "nobody is left", |s| s.sessions == 0).await;
    });
    process.send("-TERM");
    assert!(process.end().0.success());
    let trained = |entry: &Entry| match entry {
        Entry::Session { trained, .. } => *trained,
        Entry::RolledBack { .. } => panic!("nobody was killed"),
    };
    let sessions = ledger::balanced_sessions(dir);
    let trained = sessions.values().map(trained).sum::<u64>();
    assert_eq!(newest(dir, 0), trained, "every frame is some session's");
}

#[test]
#[ignore = "long: make chaos"]
fn a_frozen_actor_rejoins_and_its_old_unrolls_expire() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let learner = Learner {
        dir,
        address: free_address(),
        // In a synchronous run everybody waits for it until it is given up.
        more: vec![
            ENDLESS,
            ("rollout.synchronous", "true"),
            ("learner.batch_unrolls", "2"),
        ],
    };
    let process = learner.start();
    let (freezes, stays) = (start_actor(learner.address), start_actor(learner.address));
    freezes.line("joined");
    runtime().block_on(async {
        trains_on(learner.address, 20 * BATCH).await;
        freezes.send("-STOP");
        let mut status = client(learner.address).await;
        // HTTP/2's keep-alive: 20 s, and 20 s more.
        until_status(&mut status, "it is given up", |s| s.sessions == 1).await;
        tokio::time::sleep(FROZEN).await;
        trains_on(learner.address, 20 * BATCH).await;
        freezes.send("-CONT");
        until_status(&mut status, "it is back", |s| s.sessions == 2).await;
        trains_on(learner.address, 20 * BATCH).await;
    });
    for actor in [&freezes, &stays] {
        actor.send("-TERM");
    }
    assert!(freezes.end().0.success() && stays.end().0.success());
    process.send("-TERM");
    assert!(process.end().0.success());
    assert_eq!(ledger::balanced_sessions(dir).len(), 3);
}

#[test]
#[ignore = "long: make chaos"]
fn actors_adopt_changed_settings_and_another_model_cannot_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let address = free_address();
    let run = |more: Vec<(&'static str, &'static str)>| Learner { dir, address, more };
    let process = run(vec![ENDLESS]).start();
    let actors = vec![start_actor(address), start_actor(address)];
    runtime().block_on(trains_on(address, 10 * BATCH));
    process.send("-TERM");
    assert!(process.end().0.success());

    // Another model under the same run is refused, with what to do.
    let dir_text = dir.display().to_string();
    let settings = [("run.dir", dir_text.as_str()), ("model.hidden", "16")];
    let mut args = vec!["serve".to_owned(), "--resume".to_owned()];
    args.extend(tiny_args(&settings));
    let refused = command(env!("CARGO_BIN_EXE_hrm-learner"))
        .args(&args)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(64), "{said}");
    for part in ["model.hidden", "another [model]", "remedy"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }

    // Other unrolls are what the actors play from then on.
    let process = run(vec![
        ("learner.total_frames", "20000"),
        ("rollout.unroll_length", "16"),
        ("rollout.envs", "2"),
    ])
    .start();
    ends_well(process, actors, dir);
}

/// A file system of a few megabytes, in which a folder can be made read-only. Needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Self {
        fs::create_dir_all(place).expect("a folder");
        run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs"], place);
        Self(place.to_owned())
    }
}

/// A folder, which becomes a mount of its own for it: files that are open elsewhere on its disk stay writable.
fn make_read_only(folder: &Path) {
    let text = folder.display().to_string();
    run("mount", &["--bind", &text], folder);
    run("mount", &["-o", "remount,bind,ro"], folder);
}

fn run(program: &str, args: &[&str], place: &Path) {
    let ran = Command::new(program).args(args).arg(place).status();
    assert!(
        ran.expect(program).success(),
        "{program} {args:?}: this test needs root"
    );
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that still has a file open there is about to end. A failed test has said why.
        let _ = Command::new("umount")
            .args(["--lazy", "--recursive"])
            .arg(&self.0)
            .status();
    }
}

#[test]
#[ignore = "long: make chaos; needs root"]
fn a_full_or_read_only_disk_stops_only_the_saving() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(&folder.path().join("disk"));
    let dir = &disk.0.join("run");
    let learner = Learner {
        dir,
        address: free_address(),
        more: vec![ENDLESS],
    };
    let (process, metrics) = learner.serving();
    let failures = || {
        let name = "hrm_learner_write_failures_total{file=\"checkpoint\"}";
        counted(metrics, name)
    };
    let actor = start_actor(learner.address);
    runtime().block_on(async {
        let saved = async || checkpoint::find(dir).ok();
        until("the first checkpoint", saved).await;
        for trouble in ["full", "read-only"] {
            let filler = disk.0.join("filler");
            match trouble {
                "full" => {
                    // Until nothing more fits.
                    let mut size = 2 << 20;
                    while size > 0 {
                        let more = vec![0_u8; size];
                        let mut file = fs::OpenOptions::new()
                            .create(true)
                            .append(true)
                            .open(&filler)
                            .expect("a file");
                        if std::io::Write::write_all(&mut file, &more).is_err() {
                            size /= 2;
                        }
                    }
                }
                _ => make_read_only(&dir.join("checkpoints")),
            }
            let before = failures();
            until(trouble, async || (failures() > before).then_some(())).await;
            trains_on(learner.address, 4 * INTERVAL).await;
            let newest_before = newest(dir, 0);
            match trouble {
                "full" => fs::remove_file(&filler).expect("removed"),
                _ => run("umount", &[], &dir.join("checkpoints")),
            }
            until("it saves again", async || {
                (newest(dir, newest_before) > newest_before).then_some(())
            })
            .await;
        }
    });
    actor.send("-TERM");
    assert!(actor.end().0.success());
    process.send("-TERM");
    assert!(process.end().0.success());
    ledger::balanced_sessions(dir);
}

/// The library of Debian's package `faketime`, which fakes the time of day.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
#[ignore = "long: make chaos; needs Debian's faketime"]
fn a_clock_that_jumps_does_not_disturb_a_run() {
    assert!(
        Path::new(FAKETIME).exists(),
        "{FAKETIME} is missing (on Debian: apt install faketime)"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, offset) = (&folder.path().join("run"), folder.path().join("offset"));
    fs::write(&offset, "+0").expect("a file");
    let learner = Learner {
        dir,
        address: free_address(),
        more: vec![ENDLESS],
    };
    let (process, metrics) = learner.serving_with(|command| {
        command
            .env("LD_PRELOAD", FAKETIME)
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            // As when somebody sets the date: time passes as before.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    let actors = vec![start_actor(learner.address), start_actor(learner.address)];
    let saved_at = || {
        let page = test_support::get(metrics, "/metrics");
        let name = "hrm_learner_checkpoint_timestamp_seconds ";
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        value.unwrap_or(0.0)
    };
    let frames = runtime().block_on(async {
        let today = until("a checkpoint", async || {
            Some(saved_at()).filter(|at| *at > 0.0)
        })
        .await;
        for (jump, days) in [("+400d", 400.0), ("-400d", -400.0), ("+0", 0.0)] {
            fs::write(&offset, jump).expect("a file");
            until("a checkpoint of then", async || {
                ((saved_at() - today) / 86_400.0 - days)
                    .abs()
                    .lt(&1.0)
                    .then_some(())
            })
            .await;
            trains_on(learner.address, 4 * INTERVAL).await;
        }
        let mut status = client(learner.address).await;
        until_status(&mut status, "both are there", |s| s.sessions == 2)
            .await
            .frames
    });
    process.send("-TERM");
    assert!(process.end().0.success());
    // Which checkpoint is the newest is a matter of frames, not of dates.
    let total = (newest(dir, frames) + 4 * INTERVAL).to_string();
    let last = Learner {
        more: vec![("learner.total_frames", &total)],
        ..learner
    };
    ends_well(last.start(), actors, dir);
}

/// All of it in one run that has something to learn: four rooms, from scratch.
fn learns_with_many_failures(model: &[(&str, &str)]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (dir, address) = (folder.path().join("run"), free_address());
    let start = || {
        let settings = [
            ("learner.total_frames", "80000"),
            ("checkpoint.interval_frames", "5000"),
            ("eval.interval_frames", "0"),
            ("eval.final_episodes", "500"),
        ];
        let settings = settings.iter().chain(model);
        let settings: Vec<String> = settings
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        serve_four_rooms(&dir, address, &settings)
    };
    // It lives to the end of the test: what passes connections on runs in it.
    let runtime = runtime();
    let relay = runtime.block_on(Relay::start());
    relay.to(address);
    let reaches = |frames: u64| {
        runtime.block_on(async {
            let mut status = client(address).await;
            until_status(&mut status, "it trains", |s| s.frames >= frames).await;
        });
    };
    let kill = |process: Process| {
        process.send("-KILL");
        process.end();
    };

    let learner = start();
    let (first, relayed) = (start_actor(address), start_actor(relay.address));
    reaches(8_000);
    kill(learner);
    let learner = start();
    reaches(20_000);
    kill(first);
    let second = start_actor(address);
    for (fault, at) in [(Fault::Corrupt(50_000), 30_000), (Fault::Cut, 40_000)] {
        reaches(at);
        relay.set(fault);
        // Each batch can wait for a session that hangs until the learner ends it after a minute's silence.
        (1..=2).for_each(|batch| reaches(at + batch * FOUR_ROOMS_BATCH));
        relay.set(Fault::None);
    }
    reaches(50_000);
    kill(learner);
    ends_well(start(), vec![second, relayed], &dir);

    let summary = fs::read(dir.join("summary.json")).expect("a summary");
    let summary: Summary = serde_json::from_slice(&summary).expect("a summary");
    for evaluation in &summary.evaluations {
        let learnt = evaluation.policy == WalkBy::Oracle || evaluation.success >= 0.8;
        assert!(learnt, "{evaluation}");
    }
    assert_eq!((summary.complete, summary.evaluations.len()), (true, 3));
}

#[test]
#[ignore = "long: make chaos"]
fn a_run_with_many_failures_still_learns() {
    learns_with_many_failures(&[]);
}

#[test]
#[ignore = "long: make chaos"]
fn a_halting_agent_still_learns_with_many_failures() {
    learns_with_many_failures(&HALTS);
}
