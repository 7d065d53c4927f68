//! The handshake: an actor joins and receives its specification.

use hrm_common::{config::Spec, model::Parameters, refusal::Refusal, wire};
use hrm_proto::{
    WIRE_MAJOR, WIRE_MINOR,
    v1::{JoinRequest, JoinResponse},
};
use tonic::Status;

use crate::{
    connect::{Client, answered},
    error::SessionError,
    options::ActorOptions,
};

/// The result of the handshake.
pub(crate) struct Joined {
    pub(crate) session: u64,
    pub(crate) seed: u64,
    pub(crate) spec: Spec,
    pub(crate) parameters: Parameters,
}

/// Joins the learner: exchanges wire versions, receives the specification, and builds its model.
///
/// # Errors
///
/// Fails when the learner rejects the actor, the wire versions differ, or the specification is invalid.
pub(crate) async fn join(
    client: &mut Client,
    options: &ActorOptions,
) -> Result<Joined, SessionError> {
    let request = JoinRequest {
        actor_id: options.actor_id,
        wire_major: WIRE_MAJOR,
        wire_minor: WIRE_MINOR,
        name: options.name.clone(),
        threads: options.threads,
    };
    let answer = answered("Join", options.answer, client.join(request)).await?;
    if !wire::is_whole(&answer) {
        return Err(SessionError::Damaged);
    }
    let JoinResponse {
        session,
        spec,
        model_fingerprint,
        seed,
        wire_major,
        ..
    } = answer;
    if wire_major != WIRE_MAJOR {
        let refusal = Refusal::WireVersion {
            found: WIRE_MAJOR,
            expected: wire_major,
        };
        return Err(Status::from(refusal).into());
    }
    let spec = Spec::from_json(&spec).map_err(SessionError::Spec)?;
    // These weights are never used: the subscription replaces them before the first unroll.
    let parameters =
        Parameters::new(&spec.model, spec.env.grid(), 0).map_err(SessionError::Model)?;
    if parameters.fingerprint() != model_fingerprint {
        return Err(SessionError::Fingerprint {
            learner: model_fingerprint,
            actor: parameters.fingerprint(),
        });
    }
    Ok(Joined {
        session,
        seed,
        spec,
        parameters,
    })
}
