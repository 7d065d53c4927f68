//! Joins a learner as an actor does, plays one unroll and uploads it.
//!
//!     hrm-learner serve --config configs/four-rooms.toml        # in another terminal
//!     cargo run --release -p hrm-learner --example join -- http://127.0.0.1:50051

use anyhow::Context as _;
use hrm_actor::rollout::Rollout;
use hrm_common::{
    config::Spec,
    env::VecEnv,
    model::{Parameters, native::Lanes},
    output::print_line,
    policy::{Policy, action_rng},
    stage::{ActorStage, StageClock},
    telemetry::names,
    trajectory::RolloutId,
    weights::{self, Assembler},
    wire,
};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{JoinRequest, SubscribeRequest, learner_client::LearnerClient},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("usage: join URL")?;
    let mut learner = LearnerClient::connect(url).await?;
    let request = JoinRequest {
        actor_id: rand::random(),
        wire_major: WIRE_MAJOR,
        wire_minor: WIRE_MINOR,
        name: "example".into(),
        threads: 1,
    };
    let joined = learner.join(request).await?.into_inner();
    anyhow::ensure!(wire::is_whole(&joined), "the answer was damaged");
    // The learner says which mazes to play, with which model, and how long an unroll is.
    let spec = Spec::from_json(&joined.spec)?;
    let mut parameters = Parameters::new(&spec.model, spec.env.grid(), 0)?;

    let session = joined.session;
    let subscribing = learner.subscribe(SubscribeRequest { session }).await?;
    let mut chunks = subscribing.into_inner();
    let mut assembler = Assembler::new(parameters.fingerprint());
    let newest = loop {
        let chunk = chunks.message().await?.context("no weights came")?;
        if let Some(weights) = assembler.push(chunk)? {
            break weights;
        }
    };
    weights::load(&mut parameters, &newest.body)?;

    let fingerprint = parameters.fingerprint();
    let mut rollout = Rollout::new(
        VecEnv::new(&spec.env, spec.rollout.envs, joined.seed)?,
        Policy::for_rollouts(Lanes::new(parameters, spec.rollout.envs)),
        action_rng(joined.seed),
        spec.unroll_shape(),
        spec.rollout.carry_dtype,
        RolloutId { session, thread: 0 },
        fingerprint,
    );
    let mut clock = StageClock::new(names::ACTOR_STAGE_SECONDS, ActorStage::Wait);
    let unroll = rollout
        .unroll(newest.version, &mut clock, || false)
        .context("nobody stops it")?;
    let messages = tokio_stream::iter([wire::encode(&unroll)]);
    let mut acks = learner.upload(messages).await?.into_inner();
    let mut admitted = 0;
    while let Some(ack) = acks.message().await? {
        admitted = ack.frames_admitted;
    }
    print_line(format_args!("{admitted} frames admitted"))?;
    Ok(())
}
