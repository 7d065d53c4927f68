//! An actor that comes back, on a clock that runs as fast as nothing happens.

use std::time::Duration;

use hrm_actor::{ActorOptions, SessionError};
use hrm_common::{backoff::Backoff, config::Config, shutdown::Shutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::Instant,
};

/// Timers of tokio are exact to a millisecond; a few lie between two attempts.
const EXACT: Duration = Duration::from_millis(20);

/// An actor of this learner, and its end.
fn actor(
    learner: &TcpListener,
    more: impl FnOnce(&mut ActorOptions),
) -> (Shutdown, JoinHandle<()>) {
    let address = learner.local_addr().expect("bound");
    let mut options = ActorOptions {
        learner: format!("http://{address}"),
        threads: 1,
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(1000),
        ..ActorOptions::new(&Config::default(), "test".into())
    };
    more(&mut options);
    let shutdown = Shutdown::new();
    let acting = hrm_actor::run(options, shutdown.clone());
    let acting = tokio::spawn(async move {
        acting.await.expect("nothing that trying again cannot mend");
    });
    (shutdown, acting)
}

async fn listen() -> TcpListener {
    let address = "127.0.0.1:0";
    TcpListener::bind(address).await.expect("a free port")
}

async fn accept(learner: &TcpListener) -> TcpStream {
    learner.accept().await.expect("an actor").0
}

#[tokio::test(start_paused = true)]
async fn a_learner_that_never_answers_is_given_up() {
    let learner = listen().await;
    let (shutdown, acting) = actor(&learner, |options| {
        options.backoff_max = options.backoff_min;
    });
    let _silent = accept(&learner).await;
    let connected = Instant::now();
    let _again = accept(&learner).await;
    let waited = connected.elapsed();
    // The time for an answer, and the shortest wait.
    let expected = Duration::from_secs(11);
    assert!(waited.abs_diff(expected) < EXACT, "{waited:?}");
    shutdown.trip();
    acting.await.expect("it stops");
}

#[test]
fn the_error_for_a_missing_answer_states_the_call_and_the_wait() {
    let error = SessionError::NoAnswer {
        call: "Join",
        after: Duration::from_millis(1500),
    };
    assert_eq!(
        error.to_string(),
        "the learner did not answer Join within 1.5 s"
    );
    assert!(!error.is_fatal());
}

/// An attempt that takes long and fails is no sign of a healthy learner.
#[tokio::test(start_paused = true)]
async fn slow_failures_do_not_shorten_the_waits() {
    let learner = listen().await;
    let mut actor_id = 0;
    let (shutdown, acting) = actor(&learner, |options| {
        options.answer = Duration::from_secs(60);
        actor_id = options.actor_id;
    });
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(1000));
    let mut expected = Backoff::new(shortest, longest, actor_id);
    let mut connection = accept(&learner).await;
    for attempt in 0..8 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(connection);
        let failed = Instant::now();
        connection = accept(&learner).await;
        let (waited, expected) = (failed.elapsed(), expected.next_wait());
        assert!(
            waited.abs_diff(expected) < EXACT,
            "attempt {attempt}: {waited:?}, not {expected:?}"
        );
    }
    shutdown.trip();
    acting.await.expect("it stops");
}
