//! Certificates and private keys, as they stand in files.

use std::path::Path;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::config::FileError;

/// All certificates in `pem`, the content of the file at `path`, which `key` of the configuration names: one at least.
///
/// # Errors
///
/// When it holds none.
pub fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |reason: &dyn ToString| {
        let remedy = "give certificates as PEM; `hrm-learner certs` makes some";
        FileError::new(key, path, reason.to_string(), remedy)
    };
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found.map_err(|error| wrong(&error))? {
        found if found.is_empty() => Err(wrong(&"it holds no certificate")),
        found => Ok(found),
    }
}

/// The private key in `pem`, the content of the file at `path`, which `key` of the configuration names.
///
/// # Errors
///
/// When it holds none. The error says nothing of what stands there.
pub fn private_key(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|reason| {
        let remedy = "give the certificate's private key as PEM; `hrm-learner certs` makes one";
        FileError::new(key, path, reason, remedy)
    })
}
