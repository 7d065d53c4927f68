//! Connects to the learner: TCP, TLS for an `https` URL, and the token in the headers of every call.

use std::{path::PathBuf, time::Duration};

use hrm_common::{
    config::{ActorConfig, FileError, read_file},
    http2, pem,
    refusal::causes,
    token::{self, Token},
};
use hrm_proto::v1::learner_client::LearnerClient;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::error::SessionError;

/// Time limit of the TCP connection, without the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A client that sends the token with every call.
pub(crate) type Client = LearnerClient<InterceptedService<Channel, Bearer>>;

/// The actor's credentials, and the certificates by which it recognises its learner. Files are read at every attempt
/// to connect, so a changed certificate or token needs no restart.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Certificates of the authority that signed the learner's certificate, PEM.
    pub ca: Option<PathBuf>,
    /// The actor's certificate chain and private key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The source of the token, if the learner requires one.
    pub token: Option<TokenSource>,
}

/// The source of a token.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// The first token of this file.
    File(PathBuf),
    /// A token from the code that runs the actor in its own process.
    Given(Token),
}

impl Credentials {
    /// Returns the credentials that the `[actor]` section names.
    pub fn new(actor: &ActorConfig) -> Self {
        let both = (&actor.tls_certificate, &actor.tls_private_key);
        Self {
            ca: actor.tls_ca.clone(),
            identity: match both {
                (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
                _ => None,
            },
            token: actor.token_file.clone().map(TokenSource::File),
        }
    }

    /// Returns a token without TLS, for a learner in the same process.
    pub fn from_token(token: Token) -> Self {
        Self {
            token: Some(TokenSource::Given(token)),
            ..Self::default()
        }
    }

    /// Reads and checks the files.
    pub(crate) fn read(&self) -> Result<(Option<ClientTlsConfig>, Bearer), FileError> {
        let tls = match &self.ca {
            None => None,
            Some(ca) => {
                // Checked here, because tonic's errors do not name the file.
                let authority = read_file("actor.tls_ca", ca)?;
                pem::certificates("actor.tls_ca", ca, &authority)?;
                let mut tls = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(authority))
                    .timeout(HANDSHAKE);
                if let Some((certificate, key)) = &self.identity {
                    let chain = read_file("actor.tls_certificate", certificate)?;
                    pem::certificates("actor.tls_certificate", certificate, &chain)?;
                    let secret = read_file("actor.tls_private_key", key)?;
                    pem::private_key("actor.tls_private_key", key, &secret)?;
                    tls = tls.identity(Identity::from_pem(chain, secret));
                }
                Some(tls)
            }
        };
        let bearer = match &self.token {
            None => Bearer(None),
            Some(TokenSource::Given(token)) => Bearer::new(token),
            Some(TokenSource::File(path)) => match &token::read("actor.token_file", path)?[..] {
                [] => Bearer(None),
                [first, ..] => Bearer::new(first),
            },
        };
        Ok((tls, bearer))
    }
}

/// Puts a token into the headers of every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: &Token) -> Self {
        let header = format!("Bearer {}", token.reveal()).parse();
        let mut header: MetadataValue<Ascii> = header.expect("a token is visible ASCII");
        // Keeps the token out of logs and of HTTP/2's compression tables.
        header.set_sensitive(true);
        Self(Some(header))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Connects to the learner at `url`.
pub(crate) async fn connect(url: &str, credentials: &Credentials) -> Result<Client, SessionError> {
    let (tls, bearer) = credentials.read()?;
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| SessionError::Url {
            url: url.to_owned(),
            reason: causes(&error),
        })?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(http2::KEEP_ALIVE)
        .keep_alive_timeout(http2::KEEP_ALIVE)
        .initial_stream_window_size(http2::STREAM_WINDOW)
        .initial_connection_window_size(http2::CONNECTION_WINDOW);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    let channel = endpoint.connect().await?;
    Ok(LearnerClient::with_interceptor(channel, bearer))
}

/// Waits for the answer to a call, for `after` at most.
pub(crate) async fn answered<T>(
    call: &'static str,
    after: Duration,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, SessionError> {
    match tokio::time::timeout(after, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(SessionError::NoAnswer { call, after }),
    }
}
