//! Requests that the page permits.
//!
//! ```text
//!   method --> host --> token --> routes --> headers that restrict the browser
//! ```
//!
//! Where the configuration has tokens, a browser asks its user for one: the password of HTTP's basic authentication,
//! with any user name. Without tokens, the page answers only as `localhost` or an IP address; on loopback, only a
//! loopback address. A site elsewhere can otherwise give its own name this machine's address (DNS rebinding), and read
//! the page in a visitor's browser. That is so beyond loopback too: a container listens on all its addresses, although
//! its port is published on loopback.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
            WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hrm_common::telemetry::names::{self, CallRefused};

use crate::admission::access::{self, Access, AccessRole, Caller};

/// Headers of every answer. The page loads and reaches nothing but its own port, and no other page shows it in a frame.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// The rules of the page's port.
#[derive(Debug)]
pub(super) struct Gate {
    /// The tokens.
    pub(super) access: Arc<Access>,
    /// True when only this machine reaches the port.
    pub(super) loopback: bool,
}

/// The reason why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejected {
    Method,
    Host,
    Token,
}

impl Gate {
    /// Returns the caller of a permitted request.
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Rejected> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Rejected::Method);
        }
        if self.access.is_open() {
            return match self.answers_to(uri, headers) {
                true => Ok(Caller::default()),
                false => Err(Rejected::Host),
            };
        }
        let token = password(headers).or_else(|| Some(access::bearer(headers)?.to_vec()));
        let caller = Caller::from_token(token.as_deref());
        match self.access.let_in(&caller, AccessRole::Viewer) {
            Ok(()) => Ok(caller),
            Err(_) => Err(Rejected::Token),
        }
    }

    /// Returns true when a request names the page as `localhost` or by an IP address: a loopback address if only this
    /// machine reaches the port.
    fn answers_to(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let header = || {
            let host = headers.get(HOST)?.to_str().ok()?;
            host.parse::<Authority>().ok()
        };
        let Some(authority) = uri.authority().cloned().or_else(header) else {
            return false;
        };
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address
                .parse()
                .is_ok_and(|ip: IpAddr| ip.is_loopback() || !self.loopback)
    }
}

/// Returns the password of an `authorization: Basic` header.
fn password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let pair = STANDARD.decode(encoded).ok()?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

impl Rejected {
    /// Returns the reason under which the metrics count a rejected request with these headers. A browser sends a
    /// password only after a first request was rejected, so a request without one is no failed attempt.
    fn counted(self, headers: &HeaderMap) -> Option<CallRefused> {
        match self {
            Self::Method => None,
            Self::Host => Some(CallRefused::Host),
            Self::Token => headers
                .contains_key(AUTHORIZATION)
                .then_some(CallRefused::Unauthenticated),
        }
    }

    fn answer(self) -> Response {
        match self {
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                [(ALLOW, "GET, HEAD")],
                "the page is read-only\n",
            )
                .into_response(),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "without tokens, the page answers to localhost and IP addresses only, on loopback to loopback \
                 addresses only; a proxy must send such a Host header\n",
            )
                .into_response(),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                [(
                    WWW_AUTHENTICATE,
                    "Basic realm=\"viewer's token as password\", charset=\"UTF-8\"",
                )],
                "send a viewer's token as the password, with any user name (learner.viewer_tokens_file)\n",
            )
                .into_response(),
        }
    }
}

/// Passes a request to the page with its caller, or rejects it.
pub(super) async fn guard(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let checked = gate.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(rejected) => {
            tracing::debug!(path = request.uri().path(), ?rejected, "request rejected");
            if let Some(reason) = rejected.counted(request.headers()) {
                names::LEARNER_CALLS_REFUSED.with(reason).increment(1);
            }
            rejected.answer()
        }
    };
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use hrm_common::token::Token;

    use super::*;

    fn check(gate: &Gate, host: &str, authorization: Option<&str>) -> Result<(), Rejected> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().expect("a header"));
        }
        gate.check(&Method::GET, &Uri::from_static("/"), &headers)
            .map(|_| ())
    }

    #[test]
    fn an_open_page_answers_to_localhost_and_addresses_only() {
        let gate = |loopback| Gate {
            access: Arc::new(Access::Open),
            loopback,
        };
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:80",
        ] {
            assert_eq!(check(&gate(true), host, None), Ok(()), "{host}");
            assert_eq!(check(&gate(false), host, None), Ok(()), "{host}");
        }
        let rejected = Err(Rejected::Host);
        for host in ["192.0.2.1", "192.0.2.1:8080", "[2001:db8::1]:80"] {
            assert_eq!(check(&gate(true), host, None), rejected, "{host}");
            assert_eq!(check(&gate(false), host, None), Ok(()), "{host}");
        }
        // A name that somebody else can point at this machine's address.
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "learner",
            "",
        ] {
            assert_eq!(check(&gate(true), host, None), rejected, "{host}");
            assert_eq!(check(&gate(false), host, None), rejected, "{host}");
        }
        for loopback in [true, false] {
            let headers = HeaderMap::new();
            let nameless = gate(loopback).check(&Method::GET, &Uri::from_static("/"), &headers);
            assert_eq!(nameless, Err(Rejected::Host));
        }
    }

    #[test]
    fn a_token_is_a_password_or_a_bearer_token() {
        let token = Token::random();
        let gate = Gate {
            access: Arc::new(Access::Only(token.clone())),
            loopback: true,
        };
        let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
        let secret = token.reveal();
        for good in [
            basic(format!(":{secret}")),
            basic(format!("anyone:{secret}")),
            format!("bAsIc {}", STANDARD.encode(format!("me:{secret}"))),
            format!("Bearer {secret}"),
        ] {
            assert_eq!(check(&gate, "any.example", Some(&good)), Ok(()), "{good}");
        }
        for bad in [
            basic(secret.to_owned()),
            basic(format!("{secret}:")),
            basic(format!("a:{secret}x")),
            format!("Basic a:{secret}"),
            format!("Bearer {secret}x"),
            "Basic".to_owned(),
            "Basic *".to_owned(),
        ] {
            let rejected = check(&gate, "localhost", Some(&bad));
            assert_eq!(rejected, Err(Rejected::Token), "{bad}");
        }
        assert_eq!(check(&gate, "localhost", None), Err(Rejected::Token));
    }

    #[test]
    fn a_first_request_without_a_password_is_not_counted() {
        let nothing = HeaderMap::new();
        let wrong = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Basic *"))]);
        assert_eq!(Rejected::Token.counted(&nothing), None);
        let counted = Some(CallRefused::Unauthenticated);
        assert_eq!(Rejected::Token.counted(&wrong), counted);
        assert_eq!(Rejected::Host.counted(&nothing), Some(CallRefused::Host));
        assert_eq!(Rejected::Method.counted(&wrong), None);
    }
}
