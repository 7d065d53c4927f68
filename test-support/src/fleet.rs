//! A learner and actors as processes of their own.

use std::{net::SocketAddr, path::Path};

use hrm_learner::storage::ledger_file::Entry;

use crate::{ANY_PORT, Process, command, ledger, program, tiny_args};

/// An address that was free a moment ago, for a learner that comes back to it.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(ANY_PORT).expect("a free port");
    listener.local_addr().expect("bound")
}

/// An actor of the learner there, however that may be configured.
pub fn start_actor(address: SocketAddr) -> Process {
    let url = format!("http://{address}");
    let settings = [
        ("actor.learner", url.as_str()),
        ("actor.metrics_listen", "127.0.0.1:0"),
    ];
    let mut args = vec!["run".to_owned()];
    args.extend(tiny_args(&settings));
    Process::start(command(program("hrm-actor")).args(&args))
}

/// A learner of four rooms, as shipped but for `more`, that resumes its run.
pub fn serve_four_rooms(dir: &Path, address: SocketAddr, more: &[&str]) -> Process {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut command = command(program("hrm-learner"));
    command
        .args(["serve", "--resume", "--metrics-listen", "", "--config"])
        .arg(configs.join("four-rooms.toml"))
        .arg("--run-dir")
        .arg(dir)
        .args(["--listen", &address.to_string()]);
    let always = ["learner.max_minutes=0", "telemetry.log_format=json"];
    for setting in always.iter().chain(more) {
        command.args(["--set", setting]);
    }
    // Two pools of memory for all threads, instead of one for each that grows to the largest work which that thread
    // ever did: what is held then settles sooner.
    command.env("MALLOC_ARENA_MAX", "2");
    let process = Process::start(&mut command);
    process.line("training");
    process
}

/// Waits for the end of a learner and of its actors, which end by themselves when the run does or were asked to.
/// Each of their orderly sessions must be booked as they count it.
pub fn ends_well(learner: Process, actors: Vec<Process>, dir: &Path) {
    let (status, output) = learner.end();
    assert!(status.success(), "{status}: {output}");
    let sessions = ledger::balanced_sessions(dir);
    for mut actor in actors {
        for line in actor.rest() {
            if line["message"] != "the learner took everything that was sent" {
                continue;
            }
            let field = |name: &str| &line[name];
            let session = field("session").as_str().expect("a session");
            let Some(Entry::Session { received, .. }) = sessions.get(session) else {
                panic!("no line of session {session}");
            };
            assert_eq!(field("frames_sent").as_u64(), Some(*received), "{line}");
        }
        let (status, _) = actor.end();
        assert!(status.success(), "{status}");
    }
}
