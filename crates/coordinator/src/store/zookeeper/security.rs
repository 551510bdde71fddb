//! How connections to ZooKeeper are secured, in builds that can (the feature `zookeeper-tls`).

use zookeeper_client::Connector;

use crate::store::{OptionsError, StoreOptions};

/// The certificates of both sides. In a build without TLS nobody has one.
#[derive(Clone, Debug)]
pub(super) struct Security {
    #[cfg(feature = "zookeeper-tls")]
    options: zookeeper_client::TlsOptions,
    #[cfg(not(feature = "zookeeper-tls"))]
    never: std::convert::Infallible,
}

impl Security {
    /// What the options ask for, for the servers with these names; none: nothing.
    #[cfg(feature = "zookeeper-tls")]
    pub(super) fn of(options: &StoreOptions, names: &[&str]) -> Result<Option<Self>, OptionsError> {
        let Some(tls) = &options.tls else {
            return Ok(None);
        };
        for name in names {
            // The client takes for granted that a certificate can be asked for by that name.
            if rustls::pki_types::ServerName::try_from(*name).is_err() {
                return Err(OptionsError::Address {
                    address: (*name).to_owned(),
                    reason: "no certificate can have that name".to_owned(),
                });
            }
        }
        // Two libraries for it are in the build, and the client takes the one that the process has chosen. If somebody
        // chose before, it is chosen.
        drop(rustls::crypto::ring::default_provider().install_default());
        let wrong = |error: zookeeper_client::Error| OptionsError::Certificates(error.to_string());
        let mut options = zookeeper_client::TlsOptions::new()
            .with_pem_ca(&tls.authority)
            .map_err(wrong)?;
        if let Some((certificate, key)) = &tls.identity {
            options = options.with_pem_identity(certificate, key).map_err(wrong)?;
        }
        Ok(Some(Self { options }))
    }

    /// What the options ask for: this build has nothing to give.
    #[cfg(not(feature = "zookeeper-tls"))]
    pub(super) fn of(options: &StoreOptions, _: &[&str]) -> Result<Option<Self>, OptionsError> {
        match options.tls {
            None => Ok(None),
            Some(_) => Err(OptionsError::Certificates(
                "this program was built without TLS to ZooKeeper; build it with `make build`, or with the cargo feature \
                 `zookeeper-tls`"
                    .to_owned(),
            )),
        }
    }

    #[cfg(feature = "zookeeper-tls")]
    pub(super) fn secure(&self, connector: Connector) -> Connector {
        connector.with_tls(self.options.clone())
    }

    #[cfg(not(feature = "zookeeper-tls"))]
    pub(super) fn secure(&self, _: Connector) -> Connector {
        match self.never {}
    }
}
