//! Reads certificates and private keys from PEM files.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::config::FileError;

/// Returns all certificates in `pem`, the content of the file at `path`, which `key` of the configuration names.
///
/// # Errors
///
/// Fails when the file has no certificate or an invalid one.
pub fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |reason: &dyn ToString| {
        let remedy = "write certificates in PEM; `hrm-learner certs` creates some";
        FileError::new(key, path, reason.to_string(), remedy)
    };
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found.map_err(|error| wrong(&error))? {
        found if found.is_empty() => Err(wrong(&"the file has no certificate")),
        found => Ok(found),
    }
}

/// Returns the private key in `pem`, the content of the file at `path`, which `key` of the configuration names.
///
/// # Errors
///
/// Fails when the file has no valid private key. The error does not show the file's content.
pub fn private_key(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|reason| {
        let remedy = "write the certificate's private key in PEM; `hrm-learner certs` creates one";
        FileError::new(key, path, reason, remedy)
    })
}
