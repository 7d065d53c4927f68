//! The service over real sockets, with the trainer's side played by the test.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hrm_common::{
    config::{BatchRange, Config, MAX_THREADS, Spec},
    model::{Parameters, state},
    refusal::Refusal,
    shutdown::Shutdown,
    stage::{LearnerStage, StageClock},
    telemetry::names,
    weights::{Assembler, Weights, load},
};
use hrm_learner::{
    admission::{
        access::Access,
        queue::{QueueReceiver, queue},
        service::{LearnerService, RunCounters},
        sessions::Sessions,
        upload::Admission,
        window::Window,
    },
    training::batcher::{BatchLimits, Batcher, Next},
};
use hrm_proto::{
    WIRE_MAJOR,
    v1::{
        JoinRequest, StatusResponse, SubscribeRequest, UploadAck, WeightsChunk,
        learner_server::LearnerServer,
    },
};
use test_support::{
    Player, client, join, join_with_threads, metric, open_upload, status, until, until_status,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Streaming, transport::Server};

/// Unrolls that the queue of these tests holds.
const CAPACITY: usize = 2;

/// The test's end of a service: that of the trainer.
struct Trainer {
    config: Config,
    model: Parameters,
    sessions: Arc<Sessions>,
    newest: watch::Sender<Weights>,
    queue: QueueReceiver,
    counters: Arc<RunCounters>,
}

fn service(patience: Duration, synchronous: bool) -> (LearnerService, Trainer) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = test_support::tiny(folder.path(), &[]).config;
    config.rollout.synchronous = synchronous;
    let grid = config.env.grid();
    let model = Parameters::new(&config.model, grid, 1).expect("a model");
    let sessions = Arc::new(Sessions::new(config.run.seed, 0, 8));
    let (queue_tx, queue) = queue(CAPACITY);
    let (newest_tx, newest) = watch::channel(version_of(&model, 1));
    let counters = Arc::new(RunCounters::new(32, 2));
    let mut admission = Admission::new(
        &config,
        model.fingerprint(),
        Arc::new(Access::Open),
        sessions.clone(),
        queue_tx,
        newest,
    );
    admission.patience = patience;
    let service = LearnerService {
        run_id: "run".into(),
        spec: config.spec().to_json().expect("JSON"),
        admission,
        counters: counters.clone(),
        trains: true,
    };
    let trainer = Trainer {
        config,
        model,
        sessions,
        newest: newest_tx,
        queue,
        counters,
    };
    (service, trainer)
}

async fn listen() -> (SocketAddr, Trainer) {
    listen_with(test_support::PATIENCE, false).await
}

async fn listen_with(patience: Duration, synchronous: bool) -> (SocketAddr, Trainer) {
    let (service, trainer) = service(patience, synchronous);
    (serve(service).await, trainer)
}

async fn serve(service: LearnerService) -> SocketAddr {
    let listener = TcpListener::bind(test_support::ANY_PORT)
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(
        Server::builder()
            .add_service(LearnerServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    address
}

impl Trainer {
    /// Takes over the queue as the trainer does, one unroll per batch.
    fn batcher(self, max_policy_lag: u64) -> (Batcher, crossbeam::channel::Sender<()>) {
        self.batcher_within(BatchLimits {
            unrolls: BatchRange { least: 1, most: 1 },
            max_policy_lag,
            synchronous: false,
        })
    }

    fn batcher_within(self, limits: BatchLimits) -> (Batcher, crossbeam::channel::Sender<()>) {
        let (stop_tx, stop) = crossbeam::channel::bounded(0);
        let batcher = Batcher::new(self.queue, stop, self.sessions, limits, tch::Device::Cpu);
        (batcher, stop_tx)
    }
}

/// Returns the batcher's answer to the present queue.
fn next(batcher: &mut Batcher, newest_version: u64) -> Next {
    let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
    batcher.next(newest_version, Duration::ZERO, &mut clock)
}

fn version_of(model: &Parameters, version: u64) -> Weights {
    let body = state::encode(model).into();
    Weights::new(version, body, model.fingerprint(), 3, false)
}

/// The first acknowledgement that says `wanted`.
async fn ack(acks: &mut Streaming<UploadAck>, wanted: impl Fn(&UploadAck) -> bool) -> UploadAck {
    while let Some(ack) = acks.message().await.expect("an open upload") {
        if wanted(&ack) {
            return ack;
        }
    }
    panic!("the upload ended before");
}

/// Returns the status with which the learner ended an upload.
async fn refusal(acks: &mut Streaming<UploadAck>) -> tonic::Status {
    loop {
        match acks.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended in order"),
            Err(status) => return status,
        }
    }
}

/// The next complete version on a subscription.
async fn weights(stream: &mut Streaming<WeightsChunk>, assembler: &mut Assembler) -> Weights {
    loop {
        let chunk = stream
            .message()
            .await
            .expect("an open subscription")
            .expect("more weights");
        if let Some(weights) = assembler.push(chunk).expect("sound weights") {
            return weights;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_actor_receives_the_spec_and_its_own_seed() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let first = join(&mut client, 1).await.expect("room");
    let second = join(&mut client, 2).await.expect("room");
    let spec = Spec::from_json(&first.spec).expect("a spec");
    assert_eq!(spec, trainer.config.spec());
    assert_eq!(first.model_fingerprint, trainer.model.fingerprint());
    assert_eq!(
        (first.run_id.as_str(), first.wire_major),
        ("run", WIRE_MAJOR)
    );
    assert_ne!(first.session, second.session);
    assert_ne!(first.seed, second.seed, "no two play the same episodes");
    assert_eq!(trainer.sessions.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_wire_version_is_refused_with_what_to_upgrade() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    for (wire_major, remedy) in [
        (WIRE_MAJOR - 1, "upgrade the actor"),
        (WIRE_MAJOR + 1, "upgrade the learner"),
    ] {
        let request = JoinRequest {
            actor_id: 1,
            wire_major,
            threads: 1,
            ..JoinRequest::default()
        };
        let status = client.join(request).await.expect_err("another version");
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(remedy), "{status}");
    }
    assert!(trainer.sessions.is_empty());
    // A minor version more is a peer that knows more.
    let request = JoinRequest {
        wire_major: WIRE_MAJOR,
        wire_minor: 99,
        threads: 1,
        ..JoinRequest::default()
    };
    assert!(client.join(request).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_unroll_is_named_and_counted_and_those_before_it_stay() {
    test_support::scrape();
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut player = Player::new(&joined);
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls.send(player.unroll(1)).await.expect("open");
    let mut bad = player.unroll(1);
    bad.rewards = vec![0x7f; bad.rewards.len()].into();
    unrolls.send(bad).await.expect("open");

    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`rewards`"), "{status}");
    assert_eq!(trainer.queue.channel().len(), 1, "the one before it");
    let counted = metric("hrm_learner_unrolls_refused_total{field=\"rewards\"}");
    assert_eq!(counted, 1.0);
    until("its session is closed", async || {
        trainer.sessions.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unrolls_of_a_session_must_arrive_once_and_in_order() {
    test_support::scrape();
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let refused = || metric("hrm_learner_unrolls_refused_total{field=\"sequence\"}");
    // The first is missing, one comes twice, one is missing, two are in the wrong order, an old one comes again.
    let orders: [&[usize]; 5] = [&[1], &[0, 0], &[0, 2], &[0, 2, 1], &[0, 1, 0]];
    for (actor, order) in orders.into_iter().enumerate() {
        let joined = join(&mut client, actor as u64).await.expect("room");
        let mut player = Player::new(&joined);
        let unrolls = [(); 3].map(|()| player.unroll(1));
        assert_eq!(unrolls.each_ref().map(|u| u.sequence), [0, 1, 2]);
        let sound = order.iter().zip(0..).take_while(|&(&at, next)| at == next);
        let sound = sound.count();
        let before = refused();
        let (upload, mut acks) = open_upload(&mut client).await;
        for &at in &order[..=sound] {
            upload.send(unrolls[at].clone()).await.expect("open");
        }
        let status = refusal(&mut acks).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{order:?}");
        assert!(
            status.message().contains("`sequence`"),
            "{order:?}: {status}"
        );
        assert_eq!(refused(), before + 1.0, "{order:?}");
        let queued = std::iter::from_fn(|| trainer.queue.channel().try_recv().ok());
        let queued: Vec<u64> = queued.map(|queued| queued.unroll.sequence).collect();
        assert_eq!(queued, (0..sound as u64).collect::<Vec<_>>(), "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actors_threads_upload_on_one_session_and_are_counted_one_by_one() {
    test_support::scrape();
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    for none_or_too_many in [0, MAX_THREADS + 1] {
        let joined = join_with_threads(&mut client, 1, none_or_too_many).await;
        let status = joined.expect_err("not a number of threads");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("`threads`"), "{status}");
    }
    let joined = join_with_threads(&mut client, 1, 2).await.expect("room");
    let mut players = [0, 1].map(|thread| Player::from_thread(&joined, thread));
    let (unrolls, mut acks) = open_upload(&mut client).await;
    for (thread, sequence) in [(1, 0), (0, 0), (1, 1)] {
        let unroll = players[thread].unroll(1);
        assert_eq!((unroll.thread, unroll.sequence), (thread as u32, sequence));
        unrolls.send(unroll).await.expect("open");
        if let Ok(queued) = trainer.queue.channel().recv_timeout(test_support::PATIENCE) {
            assert_eq!(queued.unroll.thread as usize, thread);
            trainer.sessions.take(&queued.session);
        }
    }
    // Two may be under way from the start, and each one that is taken lets another one in.
    ack(&mut acks, |ack| ack.unrolls_permitted == 2 + 3).await;

    unrolls
        .send(Player::from_thread(&joined, 2).unroll(1))
        .await
        .expect("open");
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`thread`"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_open_must_join_again() {
    let (address, _trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut unroll = Player::new(&joined).unroll(1);
    unroll.session ^= 1;
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls.send(unroll).await.expect("open");
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("join again"), "{status}");

    let session = joined.session ^ 1;
    let status = client
        .subscribe(SubscribeRequest { session })
        .await
        .expect_err("unknown");
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_carries_unrolls_of_one_session_only() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let mine = join(&mut client, 1).await.expect("room");
    let other = join(&mut client, 2).await.expect("room");
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls
        .send(Player::new(&mine).unroll(1))
        .await
        .expect("open");
    unrolls
        .send(Player::new(&other).unroll(1))
        .await
        .expect("open");
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`session`"), "{status}");
    assert!(trainer.sessions.find(mine.session).is_err());
    assert!(trainer.sessions.find(other.session).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejoining_actor_fences_its_old_session() {
    test_support::scrape();
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let old = join(&mut client, 7).await.expect("room");
    let mut old_player = Player::new(&old);
    let (old_unrolls, mut old_acks) = open_upload(&mut client).await;
    old_unrolls.send(old_player.unroll(1)).await.expect("open");
    ack(&mut old_acks, |ack| ack.unrolls_admitted == 1).await;

    let new = join(&mut client, 7).await.expect("room");
    assert_eq!(trainer.sessions.len(), 1);
    let new_unroll = Player::new(&new).unroll(1);
    let (new_unrolls, mut new_acks) = open_upload(&mut client).await;
    new_unrolls.send(new_unroll.clone()).await.expect("open");
    ack(&mut new_acks, |ack| ack.unrolls_admitted == 1).await;

    let (mut batcher, _stop) = trainer.batcher(64);
    let Next::Batch(batch, _) = next(&mut batcher, 1) else {
        panic!("an unroll waits");
    };
    let actions = Vec::<i64>::try_from(batch.actions.flatten(0, -1)).expect("actions");
    let expected: Vec<i64> = new_unroll.actions.iter().map(|&a| a.into()).collect();
    assert_eq!(actions, expected, "the new session's unroll alone");
    assert!(matches!(next(&mut batcher, 1), Next::Idle));
    let dropped = metric("hrm_learner_unrolls_dropped_total{reason=\"fenced\"}");
    assert_eq!(dropped, 1.0);

    let status = refusal(&mut old_acks).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_one_upload_and_the_second_does_not_end_the_first() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut player = Player::new(&joined);
    let (first, mut first_acks) = open_upload(&mut client).await;
    first.send(player.unroll(1)).await.expect("open");
    ack(&mut first_acks, |ack| ack.unrolls_admitted == 1).await;

    let (second, mut second_acks) = open_upload(&mut client).await;
    let next = player.unroll(1);
    second.send(next.clone()).await.expect("open");
    assert_eq!(refusal(&mut second_acks).await.code(), Code::AlreadyExists);
    first.send(next).await.expect("open");
    ack(&mut first_acks, |ack| ack.unrolls_admitted == 2).await;
    assert_eq!(trainer.sessions.len(), 1);

    let request = SubscribeRequest {
        session: joined.session,
    };
    let _first = client.subscribe(request).await.expect("open");
    let again = client.subscribe(request).await.expect_err("it has one");
    assert_eq!(again.code(), Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_owes_an_unroll_is_closed_and_one_that_waits_is_not() {
    let (address, trainer) = listen_with(Duration::from_millis(200), false).await;
    let mut client = client(address).await;
    let owes = join(&mut client, 1).await.expect("room");
    let waits = join(&mut client, 2).await.expect("room");
    // Before the uploads, which give them no more time than that.
    let [of_waiting, of_owing] = [&waits, &owes].map(|joined| Player::new(joined).unroll(1));
    let (waiting, mut waiting_acks) = open_upload(&mut client).await;
    waiting.send(of_waiting).await.expect("open");
    ack(&mut waiting_acks, |ack| ack.unrolls_admitted == 1).await;
    let (owing, mut owing_acks) = open_upload(&mut client).await;
    owing.send(of_owing).await.expect("open");
    ack(&mut owing_acks, |ack| ack.unrolls_admitted == 1).await;

    // The trainer takes the second one's only.
    let first = trainer.queue.channel().recv().expect("two wait");
    let second = trainer.queue.channel().recv().expect("two wait");
    assert_eq!(
        [first.session.id, second.session.id],
        [waits.session, owes.session]
    );
    trainer.sessions.take(&second.session);
    let status = refusal(&mut owing_acks).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        status.message().contains("learner.session_timeout_seconds"),
        "{status}"
    );
    assert!(trainer.sessions.find(owes.session).is_err());
    assert!(
        trainer.sessions.find(waits.session).is_ok(),
        "its unroll was not taken"
    );
    trainer.sessions.take(&first.session);
    let status = refusal(&mut waiting_acks).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "now it owes one");
}

/// A busy learner needs two unrolls at a time here. The third actor gets weights once it may play on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_surplus_actor_waits_for_its_turn_and_then_has_the_newest_weights() {
    let (mut service, mut trainer) = service(test_support::PATIENCE, false);
    let sessions = Sessions::new(1, 0, 8).with_flow(1, Window::new(&trainer.config));
    trainer.sessions = Arc::new(sessions);
    service.admission.sessions = trainer.sessions.clone();
    let mut client = client(serve(service).await).await;

    let mut actors = Vec::new();
    for actor in 1..=3 {
        let joined = join(&mut client, actor).await.expect("room");
        let request = SubscribeRequest {
            session: joined.session,
        };
        let chunks = client.subscribe(request).await.expect("open").into_inner();
        actors.push((joined, chunks));
    }
    let fingerprint = trainer.model.fingerprint();
    let first = async |chunks: &mut Streaming<WeightsChunk>| {
        let mut assembler = Assembler::new(fingerprint);
        loop {
            let chunk = chunks.message().await.expect("open").expect("a chunk");
            if let Some(weights) = assembler.push(chunk).expect("whole") {
                return weights.version;
            }
        }
    };
    for (_, chunks) in &mut actors[..2] {
        assert_eq!(first(chunks).await, 1);
    }
    let (unrolls, mut acks) = open_upload(&mut client).await;
    let unroll = Player::new(&actors[0].0).unroll(1);
    unrolls.send(unroll).await.expect("open");
    let acked = ack(&mut acks, |ack| ack.unrolls_admitted == 1).await;
    assert_eq!(acked.unrolls_permitted, 1, "two are under way");
    let third = trainer.sessions.find(actors[2].0.session).expect("open");
    assert_eq!(third.permitted(), 0);

    trainer.newest.send_replace(version_of(&trainer.model, 2));
    let queued = trainer.queue.channel().recv().expect("one");
    trainer.sessions.take(&queued.session);
    assert_eq!(first(&mut actors[2].1).await, 2);
    assert_eq!(queued.session.permitted(), 1, "it waits its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_synchronous_run_no_unroll_is_owed_before_new_weights() {
    let (address, trainer) = listen_with(Duration::from_millis(200), true).await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    // Before the upload, which gives it no more time than that.
    let unroll = Player::new(&joined).unroll(1);
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls.send(unroll).await.expect("open");
    let queued = trainer.queue.channel().recv().expect("one");
    trainer.sessions.take(&queued.session);
    ack(&mut acks, |ack| ack.unrolls_permitted == 2).await;
    // The trainer waits for somebody else, far longer than anyone may owe something.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(trainer.sessions.find(joined.session).is_ok());
    trainer.newest.send_replace(version_of(&trainer.model, 2));
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "now it owes one");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_synchronous_run_each_thread_owes_an_unroll() {
    let (address, trainer) = listen_with(Duration::from_millis(200), true).await;
    let mut client = client(address).await;
    let joined = join_with_threads(&mut client, 1, 2).await.expect("room");
    let unroll = Player::new(&joined).unroll(1);
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls.send(unroll).await.expect("open");
    let queued = trainer.queue.channel().recv().expect("one");
    trainer.sessions.take(&queued.session);
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "the other thread's");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_floods_gets_no_more_than_its_turn() {
    const TURNS: usize = 60;
    let (address, trainer) = listen().await;
    let mut sessions = Vec::new();
    for actor in 0..3 {
        let mut client = client(address).await;
        let joined = join(&mut client, actor).await.expect("room");
        let mut flood = Player::new(&joined).flood(1);
        // None of them keeps to its credits; the first has far more in its hands at any time.
        let ahead = if actor == 0 { 64 } else { 1 };
        let (unrolls, stream) = tokio::sync::mpsc::channel(ahead);
        tokio::spawn(async move {
            while let Some(unroll) = flood.next()
                && unrolls.send(unroll).await.is_ok()
            {}
        });
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let mut acks = client.upload(stream).await.expect("open").into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = acks.message().await {} });
        sessions.push(joined.session);
    }
    let full = async || (trainer.queue.channel().len() == CAPACITY).then_some(());
    let mut turns = [0; 3];
    for turn in 0..TURNS {
        until("the queue is full", full).await;
        let queued = trainer.queue.channel().recv().expect("it is full");
        let whose = sessions.iter().position(|s| *s == queued.session.id);
        // The first to come had the queue for itself.
        if turn > CAPACITY {
            turns[whose.expect("one of them")] += 1;
        }
    }
    for of_one in turns {
        assert!(of_one >= TURNS / 4, "{turns:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_newer_actor_are_ignored() {
    let (address, _trainer) = listen().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .expect("a URL")
        .connect()
        .await
        .expect("a learner");
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut bytes = prost::Message::encode_to_vec(&Player::new(&joined).unroll(1));
    // Field 900, a string.
    bytes.extend([0xa2, 0x38, 3, b'n', b'e', b'w']);
    let mut raw = tonic::client::Grpc::new(channel);
    raw.ready().await.expect("connected");
    let path = "/hrm.v1.Learner/Upload".parse().expect("a path");
    let request = tonic::Request::new(tokio_stream::once(Raw(bytes)));
    let codec = tonic_prost::ProstCodec::<Raw, UploadAck>::default();
    let mut acks = raw
        .streaming(request, path, codec)
        .await
        .expect("open")
        .into_inner();
    ack(&mut acks, |ack| ack.unrolls_admitted == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unroll_without_a_checksum_is_rejected_at_any_minor_version() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    for wire_minor in [0, 1, 99] {
        let request = JoinRequest {
            actor_id: wire_minor.into(),
            wire_major: WIRE_MAJOR,
            wire_minor,
            threads: 1,
            ..JoinRequest::default()
        };
        let joined = client.join(request).await.expect("room").into_inner();
        let mut unroll = Player::new(&joined).unroll(1);
        unroll.checksum.clear();
        let (unrolls, mut acks) = open_upload(&mut client).await;
        unrolls.send(unroll).await.expect("open");
        let refusal = refusal(&mut acks).await;
        assert!(refusal.message().contains("`checksum`"), "{refusal}");
    }
    assert_eq!(trainer.queue.channel().len(), 0);
}

/// A message that is sent as it is.
#[derive(Debug, Clone, Default)]
struct Raw(Vec<u8>);

impl prost::Message for Raw {
    fn encode_raw(&self, buffer: &mut impl prost::bytes::BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl prost::bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_stops_the_reading_of_an_upload() {
    /// Far more than the connection's windows hold.
    const OFFERED: usize = 4096;
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let flood = Player::new(&joined).flood(1);
    let size = prost::Message::encoded_len(&Player::new(&joined).unroll(1));
    let pulled = Arc::new(AtomicUsize::new(0));
    let stream = tokio_stream::iter(flood.take(OFFERED)).map({
        let pulled = pulled.clone();
        move |unroll| {
            pulled.fetch_add(1, Ordering::Relaxed);
            unroll
        }
    });
    let mut acks = client.upload(stream).await.expect("open").into_inner();

    let full = ack(&mut acks, |ack| ack.unrolls_admitted == 2).await;
    assert_eq!((full.unrolls_permitted, full.frames_admitted), (1, 64));
    // The server has had every opportunity to read on by the time it has answered all of these. They come over another
    // connection: what is not read may fill the window of the first.
    let mut observer = self::client(address).await;
    for _ in 0..100 {
        assert_eq!(
            status(&mut observer).await.queued_unrolls as usize,
            CAPACITY
        );
    }
    let in_flight = pulled.load(Ordering::Relaxed) * size;
    assert!(in_flight < 4 << 20, "{in_flight} bytes left the actor");

    for taken in 1..=3 {
        let queued = trainer.queue.channel().recv().expect("it is full");
        trainer.sessions.take(&queued.session);
        drop(queued);
        let acked = ack(&mut acks, |ack| ack.unrolls_admitted == 2 + taken).await;
        assert_eq!(acked.unrolls_permitted, 1 + taken, "one taken, one let in");
        assert_eq!(trainer.queue.channel().len(), CAPACITY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_unroll_is_dropped_and_counted_and_its_actor_continues() {
    test_support::scrape();
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut player = Player::new(&joined);
    trainer.newest.send_replace(version_of(&trainer.model, 9));
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls.send(player.unroll(1)).await.expect("open");
    unrolls.send(player.unroll(5)).await.expect("open");
    ack(&mut acks, |ack| ack.unrolls_admitted == 2).await;

    let (mut batcher, _stop) = trainer.batcher(4);
    let Next::Batch(batch, _) = next(&mut batcher, 9) else {
        panic!("an unroll waits");
    };
    assert_eq!(batch.lags, [4], "exactly as old as is allowed");
    let dropped = metric("hrm_learner_unrolls_dropped_total{reason=\"stale\"}");
    assert_eq!(dropped, 1.0);
    let frames = metric("hrm_learner_frames_dropped_total{reason=\"stale\"}");
    assert_eq!(frames, 32.0);
    ack(&mut acks, |ack| ack.unrolls_permitted == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_batch_waits_for_every_session_at_work_and_for_no_other() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let stays = join(&mut client, 1).await.expect("room");
    let leaves = join(&mut client, 2).await.expect("room");
    // One that died between its handshake and its first call owes nothing.
    join(&mut client, 3).await.expect("room");
    let (unrolls, mut acks) = open_upload(&mut client).await;
    let mut player = Player::new(&stays);
    unrolls.send(player.unroll(1)).await.expect("open");
    ack(&mut acks, |ack| ack.unrolls_admitted == 1).await;
    let (others, mut others_acks) = open_upload(&mut client).await;
    let unroll = Player::new(&leaves).unroll(1);
    others.send(unroll).await.expect("open");
    ack(&mut others_acks, |ack| ack.unrolls_admitted == 1).await;

    let sessions = trainer.sessions.clone();
    let (mut batcher, _stop) = trainer.batcher_within(BatchLimits {
        unrolls: BatchRange { least: 3, most: 3 },
        max_policy_lag: 4,
        synchronous: true,
    });
    let Next::Batch(batch, _) = next(&mut batcher, 1) else {
        panic!("nobody else is at work");
    };
    assert_eq!((batch.lags.len(), sessions.len()), (2, 3));

    unrolls.send(player.unroll(1)).await.expect("open");
    ack(&mut acks, |ack| ack.unrolls_admitted == 2).await;
    assert!(
        matches!(next(&mut batcher, 1), Next::Idle),
        "the other one may still send"
    );
    sessions.close(leaves.session);
    let Next::Batch(batch, _) = next(&mut batcher, 1) else {
        panic!("nobody else is there");
    };
    assert_eq!(batch.lags.len(), 1);
}

/// Its actor may be back at once, and then the batch would wait for what it owes now.
#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_batch_is_complete_as_soon_as_the_session_that_it_waits_for_ends() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let stays = join(&mut client, 1).await.expect("room");
    let sessions = trainer.sessions.clone();
    let staying = sessions.find(stays.session).expect("it is open");
    let mut owe = Vec::new();
    for actor in [2, 3] {
        let joined = join(&mut client, actor).await.expect("room");
        let session = sessions.find(joined.session).expect("it is open");
        sessions.open_upload(&session).expect("the first");
        owe.push(session.id);
    }
    let (mut batcher, _stop) = trainer.batcher_within(BatchLimits {
        unrolls: BatchRange { least: 4, most: 4 },
        max_policy_lag: 4,
        synchronous: true,
    });
    let (batches, batch) = crossbeam::channel::bounded(1);
    std::thread::spawn(move || {
        let mut clock = StageClock::new(names::LEARNER_STAGE_SECONDS, LearnerStage::Wait);
        // Its patience is longer than the test's.
        batches.send(batcher.next(1, 2 * test_support::PATIENCE, &mut clock))
    });
    let (unrolls, _acks) = open_upload(&mut client).await;
    let mut player = Player::new(&stays);
    for taken in 1..=2 {
        unrolls.send(player.unroll(1)).await.expect("open");
        until("the batcher has it", async || {
            (staying.taken() == taken).then_some(())
        })
        .await;
    }
    assert!(batch.is_empty(), "two more owe an unroll");
    sessions.close(owe[0]);
    let Ok(Next::Batch(batch, _)) = batch.recv_timeout(test_support::PATIENCE) else {
        panic!("no more than two are at work");
    };
    assert_eq!(batch.lags.len(), 2);
}

/// Actors that are faster than the trainer never leave the queue empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_effect_while_unrolls_wait() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let mut player = Player::new(&joined);
    let (unrolls, mut acks) = open_upload(&mut client).await;
    for _ in 0..CAPACITY {
        unrolls.send(player.unroll(1)).await.expect("open");
    }
    ack(&mut acks, |ack| ack.unrolls_admitted == CAPACITY as u64).await;
    let (mut batcher, stop) = trainer.batcher(4);
    assert!(matches!(next(&mut batcher, 1), Next::Batch(..)));
    drop(stop);
    assert!(matches!(next(&mut batcher, 1), Next::Stop));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_batch_has_an_unroll_of_every_thread() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join_with_threads(&mut client, 1, 2).await.expect("room");
    let (unrolls, mut acks) = open_upload(&mut client).await;
    let mut send = async |thread, admitted| {
        let unroll = Player::from_thread(&joined, thread).unroll(1);
        unrolls.send(unroll).await.expect("open");
        ack(&mut acks, |ack| ack.unrolls_admitted == admitted).await;
    };
    send(0, 1).await;
    let (mut batcher, _stop) = trainer.batcher_within(BatchLimits {
        unrolls: BatchRange { least: 3, most: 3 },
        max_policy_lag: 4,
        synchronous: true,
    });
    assert!(
        matches!(next(&mut batcher, 1), Next::Idle),
        "the other thread owes one"
    );
    send(1, 2).await;
    let Next::Batch(batch, _) = next(&mut batcher, 1) else {
        panic!("nobody else is at work");
    };
    assert_eq!(batch.lags.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unrolls_of_unpublished_weights_are_rejected() {
    let (address, _trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls
        .send(Player::new(&joined).unroll(2))
        .await
        .expect("open");
    let status = refusal(&mut acks).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`policy_versions`"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_has_the_newest_weights_at_once_and_skips_to_the_newest() {
    const LAST: u64 = 60;
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let session = join(&mut client, 1).await.expect("room").session;
    let mut stream = client
        .subscribe(SubscribeRequest { session })
        .await
        .expect("open")
        .into_inner();
    let fingerprint = trainer.model.fingerprint();
    let mut assembler = Assembler::new(fingerprint);
    let first = weights(&mut stream, &mut assembler).await;
    assert_eq!((first.version, first.curriculum_distance), (1, 3));
    let grid = trainer.config.env.grid();
    let mut copy = Parameters::new(&trainer.config.model, grid, 2).expect("a model");
    load(&mut copy, &first.body).expect("weights of this model");
    assert_eq!(state::encode(&copy), state::encode(&trainer.model));

    // More than a window holds: what nobody reads stays where it is.
    for version in 2..=LAST {
        let body = vec![version as u8; 3 << 20].into();
        trainer
            .newest
            .send_replace(Weights::new(version, body, fingerprint, 0, false));
    }
    let mut versions = vec![first.version];
    while versions.last() != Some(&LAST) {
        let weights = weights(&mut stream, &mut assembler).await;
        assert_eq!(weights.body, vec![weights.version as u8; 3 << 20]);
        versions.push(weights.version);
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert!(versions.len() < 20, "it skips: {versions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_announced_and_the_end_of_a_learner_is_not() {
    for run_complete in [true, false] {
        let (address, trainer) = listen().await;
        let mut client = client(address).await;
        let session = join(&mut client, 1).await.expect("room").session;
        let fingerprint = trainer.model.fingerprint();
        let sessions = trainer.sessions.clone();
        let last = Weights {
            run_complete,
            ..version_of(&trainer.model, 2)
        };
        trainer.newest.send_replace(last);
        drop(trainer);
        let joined = join(&mut client, 2).await.expect_err("it is over");
        if !run_complete {
            assert_eq!(joined.code(), Code::Unavailable);
            continue;
        }
        assert!(Refusal::RunComplete.is(&joined), "{joined}");
        let mut stream = client
            .subscribe(SubscribeRequest { session })
            .await
            .expect("open")
            .into_inner();
        let last = weights(&mut stream, &mut Assembler::new(fingerprint)).await;
        assert!(last.run_complete);
        assert!(stream.message().await.expect("in order").is_none());
        until("its session is closed", async || {
            sessions.is_empty().then_some(())
        })
        .await;
        assert_eq!(sessions.last_loss(), None, "everybody knows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_a_learner_without_a_trainer_is_told_to_retry() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let mut player = Player::new(&join(&mut client, 1).await.expect("room"));
    let (unrolls, mut acks) = open_upload(&mut client).await;
    drop(trainer);
    unrolls.send(player.unroll(1)).await.expect("open");
    assert_eq!(refusal(&mut acks).await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_far_the_run_is() {
    let (address, trainer) = listen().await;
    let mut client = client(address).await;
    let joined = join(&mut client, 1).await.expect("room");
    let (unrolls, mut acks) = open_upload(&mut client).await;
    unrolls
        .send(Player::new(&joined).unroll(1))
        .await
        .expect("open");
    ack(&mut acks, |ack| ack.unrolls_admitted == 1).await;
    trainer.counters.frames.store(64, Ordering::Relaxed);
    trainer.newest.send_replace(version_of(&trainer.model, 4));
    let expected = StatusResponse {
        run_id: "run".into(),
        version: 4,
        updates_tried: 2,
        frames: 64,
        sessions: 1,
        queued_unrolls: 1,
        curriculum_distance: 3,
        trains: true,
    };
    assert_eq!(status(&mut client).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_dies_leaves_no_session() {
    let (address, trainer) = listen().await;
    let gone = async || trainer.sessions.is_empty().then_some(());

    // Subscribed, no unroll yet.
    let mut actor = client(address).await;
    let session = join(&mut actor, 1).await.expect("room").session;
    let stream = actor.subscribe(SubscribeRequest { session }).await;
    assert_eq!(trainer.sessions.len(), 1);
    drop((stream, actor));
    until("no session after a subscription", gone).await;

    // In the middle of an upload, with the queue full behind it.
    let mut actor = client(address).await;
    let joined = join(&mut actor, 1).await.expect("room");
    let session = joined.session;
    let stream = actor.subscribe(SubscribeRequest { session }).await;
    let mut player = Player::new(&joined);
    let (unrolls, mut acks) = open_upload(&mut actor).await;
    for _ in 0..CAPACITY {
        unrolls.send(player.unroll(1)).await.expect("open");
    }
    ack(&mut acks, |ack| ack.unrolls_admitted == 2).await;
    drop((unrolls, acks, stream, actor));
    until("no session after an upload", gone).await;
    assert_eq!(
        trainer.queue.channel().len(),
        CAPACITY,
        "what it sent is good"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let folder = tempfile::tempdir().expect("a folder");
    let config = test_support::tiny(folder.path(), &[("learner.local_actors", "0")]);
    let shutdown = Shutdown::new();
    let running = test_support::start(&config, false, &shutdown).await;
    let mut client = client(running.address()).await;
    until_status(&mut client, "it answers", |s| s.frames == 0).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", running.address()))
        .expect("a URL")
        .connect()
        .await
        .expect("a learner");

    for service in ["", "hrm.v1.Learner"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = HealthClient::new(channel.clone())
            .check(request)
            .await
            .expect("an answer");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("an answer")
        .into_inner()
        .message()
        .await
        .expect("in order")
        .expect("a list");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services: {answer:?}");
    };
    let names: HashSet<_> = list.service.into_iter().map(|s| s.name).collect();
    assert!(names.contains("hrm.v1.Learner"), "{names:?}");
    assert!(names.contains("grpc.health.v1.Health"), "{names:?}");

    shutdown.trip();
    let summary = running.finish().await.expect("it stops");
    assert!(!summary.complete);
}
