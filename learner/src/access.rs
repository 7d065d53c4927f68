//! Who may call what.
//!
//! ```text
//!   path of the call --needed--> role --bearer token in `authorization`--> let through | refused
//! ```
//!
//! It stands before everything else: nothing of a refused call's message is read. Health is for everyone.
//! Where no tokens are configured, whoever reaches the port (and has a certificate, under mutual TLS) is an
//! actor.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};
use hrm_common::{
    config::{FileError, LearnerConfig},
    error::Refusal,
    telemetry::names::{self, CallRefused},
    token::{self, Token},
};
use subtle::{Choice, ConstantTimeEq as _};
use tonic::Status;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ask how the run stands.
    Viewer,
    /// Join, upload and subscribe, besides.
    Actor,
}

/// The role that a call needs; `None` for what is everyone's. What is not listed needs the most.
fn needed(path: &str) -> Option<Role> {
    match path.trim_start_matches('/').split_once('/') {
        Some(("grpc.health.v1.Health", _)) => None,
        Some(("hrm.v1.Learner", "Status")) => Some(Role::Viewer),
        Some(("grpc.reflection.v1.ServerReflection", _)) => Some(Role::Viewer),
        _ => Some(Role::Actor),
    }
}

/// The tokens that a learner knows.
#[derive(Debug)]
pub enum Access {
    /// None: whoever reaches the port is an actor.
    Open,
    /// Those of this file, and of another for viewers.
    Files {
        /// Tokens of actors.
        actors: TokenFile,
        /// Tokens of viewers.
        viewers: Option<TokenFile>,
    },
    /// A single one, which never leaves this process: for its own actors.
    Only(Token),
}

impl Access {
    /// What the configuration says.
    ///
    /// # Errors
    ///
    /// When a file of tokens cannot be read or holds none.
    pub fn of(config: &LearnerConfig) -> Result<Self, FileError> {
        let Some(actors) = &config.actor_tokens_file else {
            return Ok(Self::Open);
        };
        let viewers = config.viewer_tokens_file.as_deref();
        Ok(Self::Files {
            actors: TokenFile::open("learner.actor_tokens_file", actors)?,
            viewers: viewers
                .map(|path| TokenFile::open("learner.viewer_tokens_file", path))
                .transpose()?,
        })
    }

    /// Whether a call with these headers may go through.
    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(needed) = needed(path) else {
            return Ok(());
        };
        if matches!(self, Self::Open) {
            return Ok(());
        }
        let caller = bearer(headers).and_then(|token| self.role(&token::digest(token)));
        match (caller, needed) {
            (Some(Role::Actor), _) | (Some(Role::Viewer), Role::Viewer) => Ok(()),
            (Some(Role::Viewer), Role::Actor) => Err(Refusal::Forbidden),
            (None, _) => Err(Refusal::Unauthenticated),
        }
    }

    /// The role of whoever sends the token with this digest.
    fn role(&self, digest: &[u8; 32]) -> Option<Role> {
        let (actor, viewer) = match self {
            Self::Open => (true, false),
            Self::Only(token) => (token.digest().ct_eq(digest).into(), false),
            Self::Files { actors, viewers } => (
                actors.contains(digest),
                viewers.as_ref().is_some_and(|file| file.contains(digest)),
            ),
        };
        match (actor, viewer) {
            (true, _) => Some(Role::Actor),
            (false, true) => Some(Role::Viewer),
            (false, false) => None,
        }
    }
}

/// The token of an `authorization: Bearer TOKEN` header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Lets a call through to the service, or answers it.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.check(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            tracing::debug!(path = request.uri().path(), %refusal, "call refused");
            let reason = match refusal {
                Refusal::Forbidden => CallRefused::Forbidden,
                _ => CallRefused::Unauthenticated,
            };
            names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
            Status::from(refusal).into_http()
        }
    }
}

/// Digests of the tokens in a file, which is read again when it has changed. While what stands there cannot
/// be used, as in the middle of a change, the last tokens that could stay good.
#[derive(Debug)]
pub struct TokenFile {
    key: &'static str,
    path: PathBuf,
    state: Mutex<Read>,
}

/// What was read, and when the file had been written.
#[derive(Debug)]
struct Read {
    stamp: Stamp,
    digests: Vec<[u8; 32]>,
}

/// What changes with the content of a file; `None` where it has none.
type Stamp = Option<(SystemTime, u64, u64)>;

impl TokenFile {
    /// Reads the tokens of the file that `key` names.
    ///
    /// # Errors
    ///
    /// When it cannot be read or holds none.
    pub fn open(key: &'static str, path: &Path) -> Result<Self, FileError> {
        // The stamp first: what is written in between is then read again.
        let stamp = stamp(path);
        Ok(Self {
            key,
            path: path.to_owned(),
            state: Mutex::new(Read {
                stamp,
                digests: digests(key, path)?,
            }),
        })
    }

    /// Whether a token with this digest is among them. Takes as long whichever it is.
    fn contains(&self, digest: &[u8; 32]) -> bool {
        // A panic while it was held cannot leave it half written.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.path);
        if stamp != state.stamp {
            state.stamp = stamp;
            match digests(self.key, &self.path) {
                Ok(digests) => {
                    tracing::info!(key = self.key, tokens = digests.len(), "tokens read again");
                    state.digests = digests;
                }
                Err(error) => tracing::warn!(%error, "the tokens read before stay good"),
            }
        }
        let found = state
            .digests
            .iter()
            .fold(Choice::from(0), |found, known| found | known.ct_eq(digest));
        found.into()
    }
}

fn stamp(path: &Path) -> Stamp {
    let read = || -> io::Result<_> {
        let metadata = fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len(), metadata.ino()))
    };
    read().ok()
}

fn digests(key: &'static str, path: &Path) -> Result<Vec<[u8; 32]>, FileError> {
    Ok(token::read(key, path)?.iter().map(Token::digest).collect())
}

#[cfg(test)]
mod tests {
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
        Access::of(&LearnerConfig {
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
            // What does not exist needs the most, however it is spelt.
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
            assert_eq!(access.check(path, &with(ACTOR)), Ok(()), "{path}");
        }
    }

    #[test]
    fn only_a_whole_token_in_its_form_is_one() {
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
        assert_eq!(
            access.check(JOIN, &headers(&format!("bearer {ACTOR}"))),
            Ok(())
        );
    }

    #[test]
    fn tokens_change_without_a_gap() {
        let folder = tempfile::tempdir().expect("a folder");
        let access = files(folder.path());
        let path = folder.path().join("actors");
        let good = |token: &str| access.check(JOIN, &with(token)).is_ok();
        assert!(good(ACTOR) && !good(ACTOR_NEXT));
        // As Kubernetes does it: another file under the same name.
        let replace = |text: &str| {
            let fresh = folder.path().join("fresh");
            fs::write(&fresh, text).expect("a file");
            fs::rename(&fresh, &path).expect("renamed");
        };
        replace(&format!("{ACTOR}\n{ACTOR_NEXT}\n"));
        assert!(good(ACTOR) && good(ACTOR_NEXT));
        replace(ACTOR_NEXT);
        assert!(!good(ACTOR) && good(ACTOR_NEXT));
        // Half written, or gone: what was good stays so.
        replace("half");
        assert!(!good(ACTOR) && good(ACTOR_NEXT) && !good("half"));
        fs::remove_file(&path).expect("removed");
        assert!(good(ACTOR_NEXT));
        replace(ACTOR);
        assert!(good(ACTOR) && !good(ACTOR_NEXT));
    }

    #[test]
    fn without_tokens_everyone_is_an_actor_and_a_single_one_is_exact() {
        let nobody = HeaderMap::new();
        assert_eq!(Access::Open.check(JOIN, &nobody), Ok(()));
        let token = Token::random();
        let only = Access::Only(token.clone());
        assert_eq!(only.check(JOIN, &with(token.reveal())), Ok(()));
        for wrong in [nobody, with(Token::random().reveal())] {
            assert_eq!(only.check(JOIN, &wrong), Err(Refusal::Unauthenticated));
            assert_eq!(only.check(HEALTH, &wrong), Ok(()));
        }
    }
}
