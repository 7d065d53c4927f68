//! Checks the role of each call's bearer token.
//!
//! ```text
//!   path of the call --needed--> role --bearer token in `authorization`--> let through | rejected
//! ```
//!
//! This check comes before all others: the learner reads no message of a rejected call. Health checks need no token.
//! Without configured tokens, everyone who reaches the port is an actor. Under mutual TLS they still need a
//! certificate.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};
use hrm_common::{
    checksum::{self, Digest},
    config::{FileError, LearnerConfig},
    refusal::Refusal,
    reload::{Refresh, Reloaded},
    telemetry::names::{self, CallRefused},
    token::{self, Token},
};
use hrm_proto::v1::learner_server;
use http_body_util::Limited;
use subtle::{Choice, ConstantTimeEq as _};
use tokio::time::timeout;
use tonic::Status;
use tonic_health::pb::health_server;
use tonic_reflection::pb::v1::server_reflection_server;

/// Largest request other than an upload, in bytes; such a request holds a few numbers and names. Health checks need no
/// token, so this bounds what a stranger can make the learner hold.
const REQUEST: usize = 16 << 10;

/// Longest time for such a request to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Permission level of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessRole {
    /// May ask for the run's status.
    Viewer,
    /// May also join, upload and subscribe.
    Actor,
}

/// A call, as far as access depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Health,
    Reflection,
    Status,
    Upload,
    /// All others, known or not.
    Other,
}

impl Call {
    /// Reads the path of a request, `/SERVICE/METHOD`.
    fn from_path(path: &str) -> Self {
        match path.trim_start_matches('/').split_once('/') {
            Some((health_server::SERVICE_NAME, _)) => Self::Health,
            Some((server_reflection_server::SERVICE_NAME, _)) => Self::Reflection,
            Some((learner_server::SERVICE_NAME, "Status")) => Self::Status,
            Some((learner_server::SERVICE_NAME, "Upload")) => Self::Upload,
            _ => Self::Other,
        }
    }

    /// Returns the role that the call needs, or `None` for a call that needs no token. An unlisted call needs the
    /// highest role.
    fn needed(self) -> Option<AccessRole> {
        match self {
            Self::Health => None,
            Self::Status | Self::Reflection => Some(AccessRole::Viewer),
            Self::Upload | Self::Other => Some(AccessRole::Actor),
        }
    }
}

/// The caller, identified by the digest of its token, if it sent one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller(Option<Digest>);

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller(..)")
    }
}

impl Caller {
    /// Creates the caller that sent this token.
    pub(crate) fn from_token(token: Option<&[u8]>) -> Self {
        Self(token.map(checksum::digest))
    }
}

/// Tokens that a learner accepts.
#[derive(Debug)]
pub enum Access {
    /// No tokens: everyone who reaches the port is an actor.
    Open,
    /// Tokens in a file for actors, and in an optional file for viewers.
    Files {
        /// Tokens of actors.
        actors: TokenFile,
        /// Tokens of viewers.
        viewers: Option<TokenFile>,
    },
    /// A single token for the learner's own actors, which never leaves this process.
    Only(Token),
}

impl Access {
    /// Reads the tokens that the configuration names.
    ///
    /// # Errors
    ///
    /// Returns an error when a token file cannot be read or holds no token.
    pub fn new(config: &LearnerConfig) -> Result<Self, FileError> {
        let Some(actors) = &config.actor_tokens_file else {
            return Ok(Self::Open);
        };
        let viewers = config.viewer_tokens_file.as_deref();
        Ok(Self::Files {
            actors: open("learner.actor_tokens_file", actors)?,
            viewers: viewers
                .map(|path| open("learner.viewer_tokens_file", path))
                .transpose()?,
        })
    }

    /// Returns the token files.
    pub fn files(&self) -> Vec<Arc<dyn Refresh>> {
        match self {
            Self::Open | Self::Only(_) => Vec::new(),
            Self::Files { actors, viewers } => std::iter::once(actors)
                .chain(viewers)
                .map(|file| file.clone() as Arc<dyn Refresh>)
                .collect(),
        }
    }

    /// Checks whether the headers allow a call, and returns the caller.
    fn check(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let caller = Caller::from_token(bearer(headers));
        match Call::from_path(path).needed() {
            Some(needed) => self.let_in(&caller, needed).map(|()| caller),
            None => Ok(caller),
        }
    }

    /// Checks that a caller has a role now, because tokens change during a session.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Unauthenticated`] or [`Refusal::Forbidden`].
    pub fn let_in(&self, caller: &Caller, needed: AccessRole) -> Result<(), Refusal> {
        match (self.role(caller), needed) {
            (Some(AccessRole::Actor), _) | (Some(AccessRole::Viewer), AccessRole::Viewer) => Ok(()),
            (Some(AccessRole::Viewer), AccessRole::Actor) => Err(Refusal::Forbidden),
            (None, _) => Err(Refusal::Unauthenticated),
        }
    }

    /// Returns true when there are no tokens.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    fn role(&self, caller: &Caller) -> Option<AccessRole> {
        let (actor, viewer) = match (self, &caller.0) {
            (Self::Open, _) => (true, false),
            (_, None) => (false, false),
            (Self::Only(token), Some(digest)) => (token.digest().ct_eq(digest).into(), false),
            (Self::Files { actors, viewers }, Some(digest)) => (
                contains(actors, digest),
                viewers.as_ref().is_some_and(|file| contains(file, digest)),
            ),
        };
        match (actor, viewer) {
            (true, _) => Some(AccessRole::Actor),
            (false, true) => Some(AccessRole::Viewer),
            (false, false) => None,
        }
    }
}

/// Returns the token of an `authorization: Bearer TOKEN` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Passes a call to the service, or rejects it.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.check(request.uri().path(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            // The only call with large messages.
            if Call::from_path(request.uri().path()) == Call::Upload {
                return next.run(request).await;
            }
            let request = request.map(|body| Body::new(Limited::new(body, REQUEST)));
            match timeout(ARRIVAL, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Status::deadline_exceeded("the request did not arrive").into_http(),
            }
        }
        Err(refusal) => {
            tracing::debug!(path = request.uri().path(), %refusal, "call rejected");
            let reason = match refusal {
                Refusal::Forbidden => CallRefused::Forbidden,
                _ => CallRefused::Unauthenticated,
            };
            names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
            Status::from(refusal).into_http()
        }
    }
}

/// SHA-256 of the tokens in a reloadable file. The learner keeps and compares digests, not tokens.
type TokenFile = Arc<Reloaded<Vec<Digest>>>;

fn open(key: &'static str, path: &Path) -> Result<TokenFile, FileError> {
    let file = path.to_owned();
    Reloaded::new(key, vec![path.to_owned()], move || {
        Ok(token::read(key, &file)?.iter().map(Token::digest).collect())
    })
    .map(Arc::new)
}

/// Returns true when a token with this digest is in the file. The time taken does not depend on the match.
fn contains(file: &TokenFile, digest: &Digest) -> bool {
    let nowhere = Choice::from(0);
    let known = file.get();
    known
        .iter()
        .fold(nowhere, |found, known| found | known.ct_eq(digest))
        .into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use axum::http::HeaderValue;

    use super::*;

    const ACTOR: &str = "actor-token-0123456789abcdef";
    const ACTOR_NEXT: &str = "actor-token-next-0123456789abcdef";
    const VIEWER: &str = "viewer-token-0123456789abcdef";

    const JOIN: &str = "/hrm.v1.Learner/Join";
    const STATUS: &str = "/hrm.v1.Learner/Status";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";

    fn headers(authorization: &str) -> HeaderMap {
        let value = HeaderValue::from_str(authorization).expect("a header");
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn with(token: &str) -> HeaderMap {
        headers(&format!("Bearer {token}"))
    }

    fn files(folder: &Path) -> Access {
        let (actors, viewers) = (folder.join("actors"), folder.join("viewers"));
        fs::write(&actors, ACTOR).expect("a file");
        fs::write(&viewers, VIEWER).expect("a file");
        Access::new(&LearnerConfig {
            actor_tokens_file: Some(actors),
            viewer_tokens_file: Some(viewers),
            ..LearnerConfig::default()
        })
        .expect("two files of tokens")
    }

    #[test]
    fn every_call_needs_its_role() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = files(folder.path());
        let upload = "/hrm.v1.Learner/Upload";
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let nobody = HeaderMap::new();
        for (path, anyone, viewer) in [
            (JOIN, false, false),
            (upload, false, false),
            ("/hrm.v1.Learner/Subscribe", false, false),
            (STATUS, false, true),
            (reflection, false, true),
            (HEALTH, true, true),
            // An unknown path needs the highest role, whatever its spelling.
            ("/hrm.v1.Learner/status", false, false),
            ("/grpc.health.v1.Healthy/Check", false, false),
            ("", false, false),
        ] {
            let unknown = access.check(path, &nobody);
            assert_eq!(unknown.is_ok(), anyone, "{path}");
            if !anyone {
                assert_eq!(unknown, Err(Refusal::Unauthenticated), "{path}");
            }
            let viewing = access.check(path, &with(VIEWER));
            assert_eq!(viewing.is_ok(), viewer, "{path}");
            if !viewer {
                assert_eq!(viewing, Err(Refusal::Forbidden), "{path}");
            }
            assert!(access.check(path, &with(ACTOR)).is_ok(), "{path}");
        }
    }

    #[test]
    fn only_a_complete_bearer_token_is_accepted() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = files(folder.path());
        for wrong in [
            ACTOR.to_owned(),
            format!("Basic {ACTOR}"),
            format!("Bearer{ACTOR}"),
            format!("Bearer {}", &ACTOR[1..]),
            format!("Bearer {}", &ACTOR[..ACTOR.len() - 1]),
            format!("Bearer {ACTOR}x"),
            format!("Bearer {ACTOR},{VIEWER}"),
            "Bearer ".to_owned(),
            String::new(),
        ] {
            let refused = access.check(JOIN, &headers(&wrong));
            assert_eq!(refused, Err(Refusal::Unauthenticated), "{wrong:?}");
        }
        let lower_case = headers(&format!("bearer {ACTOR}"));
        assert!(access.check(JOIN, &lower_case).is_ok());
    }

    #[test]
    fn tokens_change_without_a_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = files(folder.path());
        let path = folder.path().join("actors");
        let good = |token: &str| access.check(JOIN, &with(token)).is_ok();
        assert!(good(ACTOR) && !good(ACTOR_NEXT));
        let refresh = || access.files().iter().for_each(|file| file.refresh());
        // Kubernetes replaces a file in this way: another file with the same name.
        let replace = |text: &str| {
            let fresh = folder.path().join("fresh");
            fs::write(&fresh, text).expect("a file");
            fs::rename(&fresh, &path).expect("renamed");
            refresh();
        };
        replace(&format!("{ACTOR}\n{ACTOR_NEXT}\n"));
        assert!(good(ACTOR) && good(ACTOR_NEXT));
        replace(ACTOR_NEXT);
        assert!(!good(ACTOR) && good(ACTOR_NEXT));
        // A half-written or missing file leaves the last valid tokens in use.
        replace("half");
        assert!(!good(ACTOR) && good(ACTOR_NEXT) && !good("half"));
        fs::remove_file(&path).expect("removed");
        refresh();
        assert!(good(ACTOR_NEXT));
        let caller = access.check(JOIN, &with(ACTOR_NEXT)).expect("let in");
        assert_eq!(access.let_in(&caller, AccessRole::Actor), Ok(()));
        replace(ACTOR);
        assert!(good(ACTOR) && !good(ACTOR_NEXT));
        assert_eq!(
            access.let_in(&caller, AccessRole::Actor),
            Err(Refusal::Unauthenticated),
            "a removed token no longer gives access"
        );
    }

    #[test]
    fn open_access_accepts_everyone_and_a_single_token_is_exact() {
        let nobody = HeaderMap::new();
        assert!(Access::Open.check(JOIN, &nobody).is_ok());
        let token = Token::random();
        let only = Access::Only(token.clone());
        assert!(only.check(JOIN, &with(token.reveal())).is_ok());
        for wrong in [nobody, with(Token::random().reveal())] {
            assert_eq!(only.check(JOIN, &wrong), Err(Refusal::Unauthenticated));
            assert!(only.check(HEALTH, &wrong).is_ok());
        }
    }

    /// Passes a request to a service that reads its whole body; returns the gRPC status.
    async fn answer(path: &str, body: Body) -> Option<String> {
        let read = |request: Request| async {
            match axum::body::to_bytes(request.into_body(), usize::MAX).await {
                Ok(_) => Response::default(),
                Err(_) => Status::out_of_range("too much").into_http::<Body>(),
            }
        };
        let app = axum::Router::new()
            .fallback(read)
            .layer(axum::middleware::from_fn_with_state(
                Arc::new(Access::Open),
                guard,
            ));
        let request = Request::builder().uri(path).body(body).expect("a request");
        let response = tower::ServiceExt::oneshot(app, request)
            .await
            .expect("infallible");
        let status = response.headers().get("grpc-status")?;
        Some(status.to_str().expect("text").to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn request_bodies_are_limited_in_size_and_time() {
        let upload = "/hrm.v1.Learner/Upload";
        let endless = || Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, axum::Error>>());
        for path in [HEALTH, JOIN, STATUS] {
            assert_eq!(answer(path, Body::from(vec![0; REQUEST])).await, None);
            let code = (tonic::Code::OutOfRange as i32).to_string();
            let refused = answer(path, Body::from(vec![0; REQUEST + 1])).await;
            assert_eq!(refused, Some(code), "{path}");
            let code = (tonic::Code::DeadlineExceeded as i32).to_string();
            assert_eq!(answer(path, endless()).await, Some(code), "{path}");
        }
        // Uploads have their own message limit, and the service has its own timeout.
        assert_eq!(answer(upload, Body::from(vec![0; 2 * REQUEST])).await, None);
        let waits = timeout(10 * ARRIVAL, answer(upload, endless())).await;
        assert!(waits.is_err());
    }
}
