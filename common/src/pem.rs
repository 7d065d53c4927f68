//! Certificates and private keys, as they stand in files.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::config::{FileError, read_file};

/// All certificates of the file at `path`, which `key` of the configuration names: one at least.
///
/// # Errors
///
/// When it cannot be read, or holds none.
pub fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |reason: &dyn ToString| {
        let remedy = "give certificates as PEM; `hrm-learner certs` makes some";
        FileError::new(key, path, reason.to_string(), remedy)
    };
    let pem = read_file(key, path)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found.map_err(|error| wrong(&error))? {
        found if found.is_empty() => Err(wrong(&"it holds no certificate")),
        found => Ok(found),
    }
}

/// The private key in the file at `path`, which `key` of the configuration names.
///
/// # Errors
///
/// When it cannot be read, or holds none. The error says nothing of what stands there.
pub fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let pem = read_file(key, path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|reason| {
        let remedy = "give the certificate's private key as PEM; `hrm-learner certs` makes one";
        FileError::new(key, path, reason, remedy)
    })
}
