//! Certificates for connections to ZooKeeper.

use zookeeper_client::{TlsCa, TlsCerts, TlsIdentity, TlsOptions};

use crate::store::{OptionsError, StoreOptions};

/// What the client is to know, if the options have certificates.
pub(super) fn options(options: &StoreOptions) -> Result<Option<TlsOptions>, OptionsError> {
    let Some(tls) = &options.tls else {
        return Ok(None);
    };
    // The client goes by the process's own choice, and there are two libraries to choose from. Whoever chose before
    // chose just as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let wrong = |error: zookeeper_client::Error| OptionsError::Certificates(error.to_string());
    let authority = TlsCa::from_pem(&tls.authority).map_err(wrong)?;
    let mut certificates = TlsCerts::builder().with_ca(authority);
    if let Some((certificate, key)) = &tls.identity {
        let identity = TlsIdentity::from_pem(certificate, key).map_err(wrong)?;
        certificates = certificates.with_identity(identity);
    }
    let certificates = certificates.build().map_err(wrong)?;
    Ok(Some(TlsOptions::new().with_certs(certificates)))
}
