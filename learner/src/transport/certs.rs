//! Creates certificates and tokens for trying encryption: a private authority, one certificate for the learner, one for
//! all actors. For lasting deployments, use the organisation's own authority.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hrm_common::token::Token;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::storage::files;

/// The clocks of a cluster differ slightly, so certificates are valid from a little before their creation.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Names of the learner on its own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// File names, by purpose.
pub mod file {
    /// The authority's certificate. Everyone who trusts it trusts the other certificates.
    pub const CA: &str = "ca.pem";
    /// The authority's key, which can sign more certificates.
    pub const CA_KEY: &str = "ca-key.pem";
    /// The learner's certificate.
    pub const LEARNER: &str = "learner.pem";
    /// The learner's private key.
    pub const LEARNER_KEY: &str = "learner-key.pem";
    /// The actors' certificate.
    pub const ACTOR: &str = "actor.pem";
    /// The actors' private key.
    pub const ACTOR_KEY: &str = "actor-key.pem";
    /// A token for actors.
    pub const ACTOR_TOKENS: &str = "actor-tokens";
    /// A token for viewers.
    pub const VIEWER_TOKENS: &str = "viewer-tokens";
}

/// Errors during the creation of certificates.
#[derive(Debug, Error)]
pub enum CertsError {
    /// A name that is invalid in a certificate, or a failure of the cryptography.
    #[error("making certificates: {0}; give --host names or addresses")]
    Make(rcgen::Error),
    /// A host that is neither an address nor a DNS name.
    #[error("--host {0:?} is neither a DNS name nor an IP address")]
    Host(String),
    /// One of the files already exists.
    #[error(
        "{0} exists, and nothing is overwritten: name another folder, remove the old one, or add --if-missing"
    )]
    Exists(PathBuf),
    /// The file system reported an error.
    #[error("{path}: {reason}; name a folder that can be created and written")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        reason: io::Error,
    },
}

impl From<rcgen::Error> for CertsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

/// Returns true when `folder` holds everything that learner and actors need from [`make`]. The authority's key may have
/// been moved to a safer place.
pub fn complete(folder: &Path) -> bool {
    [
        file::CA,
        file::LEARNER,
        file::LEARNER_KEY,
        file::ACTOR,
        file::ACTOR_KEY,
        file::ACTOR_TOKENS,
        file::VIEWER_TOKENS,
    ]
    .iter()
    .all(|name| folder.join(name).is_file())
}

/// Returns true when a certificate can name this host: an address, or a DNS name, perhaps with a wildcard.
fn is_host(name: &str) -> bool {
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

/// Writes an authority, a learner certificate for `hosts` (and the machine itself), an actor certificate, and tokens
/// into `folder`. The certificates are valid for `days` days. Only the owner can read keys and tokens. Existing files
/// are not overwritten.
///
/// # Errors
///
/// Returns an error when a host is invalid, or a file exists or cannot be written.
pub fn make(folder: &Path, hosts: &[String], days: u32) -> Result<(), CertsError> {
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        return Err(CertsError::Host(host.clone()));
    }
    let now = OffsetDateTime::now_utc();
    let params = |names: Vec<String>, common_name: &str| {
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + Duration::days(days.into());
        Ok::<_, rcgen::Error>(params)
    };
    let mut authority = params(Vec::new(), "hrm-impala development authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let signed = |names: Vec<String>, common_name: &str, usage: ExtendedKeyUsagePurpose| {
        let mut params = params(names, common_name)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
    };
    let names = HERE.iter().map(|name| (*name).to_owned());
    let names = names.chain(hosts.iter().cloned()).collect();
    let (learner, learner_key) = signed(names, "hrm-learner", ExtendedKeyUsagePurpose::ServerAuth)?;
    let (actor, actor_key) = signed(Vec::new(), "hrm-actor", ExtendedKeyUsagePurpose::ClientAuth)?;

    fs::create_dir_all(folder).map_err(|reason| CertsError::Io {
        path: folder.to_owned(),
        reason,
    })?;
    let public = |name, text: &str| write(&folder.join(name), text, 0o644);
    let secret = |name, text: &str| write(&folder.join(name), text, 0o600);
    public(file::CA, &authority.pem())?;
    secret(file::CA_KEY, &authority.key().serialize_pem())?;
    public(file::LEARNER, &learner)?;
    secret(file::LEARNER_KEY, &learner_key)?;
    public(file::ACTOR, &actor)?;
    secret(file::ACTOR_KEY, &actor_key)?;
    secret(
        file::ACTOR_TOKENS,
        &format!("{}\n", Token::random().reveal()),
    )?;
    secret(
        file::VIEWER_TOKENS,
        &format!("{}\n", Token::random().reveal()),
    )
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let path_owned = || path.to_owned();
    files::write_new(path, text, mode).map_err(|reason| match reason.kind() {
        io::ErrorKind::AlreadyExists => CertsError::Exists(path_owned()),
        _ => CertsError::Io {
            path: path_owned(),
            reason,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hrm_common::{config::LearnerConfig, token};

    use super::*;
    use crate::transport::server::Door;

    #[test]
    fn made_certificates_are_usable_and_their_secrets_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("certs");
        assert!(!complete(&folder));
        make(&folder, &["learner".into(), "10.0.0.7".into()], 30).expect("made");
        assert!(complete(&folder));
        let at = |name: &str| Some(folder.join(name));
        let config = LearnerConfig {
            tls_certificate: at(file::LEARNER),
            tls_private_key: at(file::LEARNER_KEY),
            tls_client_ca: at(file::CA),
            actor_tokens_file: at(file::ACTOR_TOKENS),
            viewer_tokens_file: at(file::VIEWER_TOKENS),
            ..LearnerConfig::default()
        };
        let door = Door::new(&config, 1);
        assert!(door.expect("usable").tls.is_some());
        for (name, mode) in [
            (file::CA, 0o644),
            (file::CA_KEY, 0o600),
            (file::LEARNER_KEY, 0o600),
            (file::ACTOR_KEY, 0o600),
            (file::ACTOR_TOKENS, 0o600),
            (file::VIEWER_TOKENS, 0o600),
        ] {
            let metadata = fs::metadata(folder.join(name)).expect(name);
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        }
        let tokens = [file::ACTOR_TOKENS, file::VIEWER_TOKENS]
            .map(|name| token::read("x", &folder.join(name)).expect("a token"));
        assert_ne!(tokens[0], tokens[1]);
    }

    #[test]
    fn existing_certificates_are_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path(), &[], 1).expect("made");
        let before = fs::read(folder.path().join(file::CA)).expect("there");
        let error = make(folder.path(), &[], 1).expect_err("there already");
        assert!(error.to_string().contains(file::CA), "{error}");
        assert_eq!(
            fs::read(folder.path().join(file::CA)).expect("there"),
            before
        );
    }

    #[test]
    fn a_certificate_without_its_key_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path(), &[], 1).expect("made");
        let at = |name: &str| Some(folder.path().join(name));
        let with = |certificate, key, client_ca| {
            let config = LearnerConfig {
                tls_certificate: at(certificate),
                tls_private_key: at(key),
                tls_client_ca: client_ca,
                ..LearnerConfig::default()
            };
            Door::new(&config, 1).expect_err("unusable")
        };
        for (error, key) in [
            (
                with(file::LEARNER, file::ACTOR_KEY, None),
                "learner.tls_certificate",
            ),
            (
                with(file::ACTOR_TOKENS, file::LEARNER_KEY, None),
                "learner.tls_certificate",
            ),
            (
                with(file::LEARNER, "missing.pem", None),
                "learner.tls_private_key",
            ),
            (
                with(file::LEARNER, file::LEARNER_KEY, at(file::ACTOR_TOKENS)),
                "learner.tls_client_ca",
            ),
        ] {
            let text = error.to_string();
            assert!(text.starts_with(&format!("invalid {key} = ")), "{text}");
            assert!(text.contains("remedy: "), "{text}");
        }
    }
}
