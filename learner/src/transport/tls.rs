//! TLS of the learner's main port and of its live page: the certificate, and the authority of client certificates.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hrm_common::{
    config::{FileError, LearnerConfig, read_file},
    pem,
    reload::Reloaded,
    telemetry::names,
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

const CERTIFICATE: &str = "learner.tls_certificate";
const PRIVATE_KEY: &str = "learner.tls_private_key";
const CLIENT_CA: &str = "learner.tls_client_ca";

/// ALPN name of HTTP/2, which gRPC uses.
const GRPC: &[u8] = b"h2";

/// ALPN name of the protocol of the live page.
const PAGE: &[u8] = b"http/1.1";

/// TLS settings from the files that a configuration names, reloaded when the files change.
pub(crate) type Tls = Arc<Reloaded<ServerConfig>>;

/// Reads the TLS settings of a configuration; `None` means plaintext.
///
/// # Errors
///
/// Returns an error when a named file cannot be used.
pub(crate) fn from_config(config: &LearnerConfig) -> Result<Option<Tls>, FileError> {
    load(config, config.tls_client_ca.clone(), GRPC)
}

/// Reads the TLS settings of the live page; `None` means plaintext. Browsers need no certificate.
///
/// # Errors
///
/// Returns an error when a named file cannot be used.
pub(crate) fn for_browsers(config: &LearnerConfig) -> Result<Option<Tls>, FileError> {
    load(config, None, PAGE)
}

fn load(
    config: &LearnerConfig,
    client_ca: Option<PathBuf>,
    protocol: &'static [u8],
) -> Result<Option<Tls>, FileError> {
    let (Some(certificate), Some(key)) = (
        config.tls_certificate.clone(),
        config.tls_private_key.clone(),
    ) else {
        return Ok(None);
    };
    let files = [Some(&certificate), Some(&key), client_ca.as_ref()];
    let files = files.into_iter().flatten().cloned().collect();
    let make = move || server_config(&certificate, &key, client_ca.as_deref(), protocol);
    let made = Reloaded::new("certificates", files, make)?;
    Ok(Some(Arc::new(made)))
}

/// Returns settings for TLS 1.2 and 1.3 with a certificate chain. With `client_ca`, clients must have a certificate.
fn server_config(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
    protocol: &[u8],
) -> Result<ServerConfig, FileError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("this provider has what both versions need");
    let builder = match client_ca {
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let chain = pem::certificates(
        CERTIFICATE,
        certificate,
        &read_file(CERTIFICATE, certificate)?,
    )?;
    let secret = pem::private_key(PRIVATE_KEY, key, &read_file(PRIVATE_KEY, key)?)?;
    let expiry = expiry(&chain);
    let mut config = builder.with_single_cert(chain, secret).map_err(|reason| {
        let remedy =
            format!("give the certificate that belongs to the private key in {PRIVATE_KEY}");
        FileError::new(CERTIFICATE, certificate, reason, remedy)
    })?;
    config.alpn_protocols = vec![protocol.to_vec()];
    if let Some(expiry) = expiry {
        names::LEARNER_CERTIFICATE_EXPIRY.get().set(expiry as f64);
    }
    Ok(config)
}

/// Returns the time at which the first certificate of a chain expires, in seconds since 1970. Returns `None` when none
/// of them can be read.
fn expiry(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let parsed = chain
        .iter()
        .filter_map(|certificate| x509_parser::parse_x509_certificate(certificate).ok());
    parsed
        .map(|(_, certificate)| certificate.validity().not_after.timestamp())
        .min()
}

/// Returns the verifier of client certificates.
fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let wrong = |reason: &dyn ToString| {
        let remedy =
            "give the certificates of the authority that signs the actors' certificates, as PEM";
        FileError::new(CLIENT_CA, path, reason.to_string(), remedy)
    };
    let mut roots = RootCertStore::empty();
    for authority in pem::certificates(CLIENT_CA, path, &read_file(CLIENT_CA, path)?)? {
        roots.add(authority).map_err(|reason| wrong(&reason))?;
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|reason| wrong(&reason))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::transport::certs::{self, file};

    #[test]
    fn a_chain_expires_with_its_first_certificate_to_expire() {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = |days: u32| {
            let folder = folder.path().join(days.to_string());
            certs::make(&folder, &["localhost".to_owned()], days).expect("made");
            let path = folder.join(file::LEARNER);
            let text = read_file(CERTIFICATE, &path).expect("a file");
            pem::certificates(CERTIFICATE, &path, &text).expect("certificates")
        };
        let [long, short] = [90, 3].map(chain);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        let days = |chain: &[CertificateDer<'_>]| {
            let expiry = expiry(chain).expect("a certificate");
            let left = Duration::from_secs(expiry as u64).saturating_sub(now);
            (left.as_secs_f64() / 86_400.0).round()
        };
        assert_eq!([days(&long), days(&short)], [90.0, 3.0]);
        assert_eq!(days(&[&long[..], &short[..]].concat()), 3.0);
        assert_eq!(expiry(&[CertificateDer::from(vec![1, 2, 3])]), None);
    }
}
