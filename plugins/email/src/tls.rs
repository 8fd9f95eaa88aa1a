//! TLS with ring and the system's trust store. Absent on purpose: any way to switch verification off.

use crate::relay::{Protection, Relay};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// What a connection needs for its handshake.
#[derive(Clone)]
pub struct Tls {
    pub connector: TlsConnector,
    pub name: ServerName<'static>,
}

/// `None` for a plain relay.
pub fn prepare(relay: &Relay) -> Result<Option<Tls>, String> {
    if relay.protection == Protection::Plain {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match &relay.ca {
        None => Verifier::new(provider.clone()),
        Some(file) => {
            let wrong = |e: &dyn std::fmt::Display| format!("ca={}: {e}", file.display());
            let roots: Vec<CertificateDer<'static>> =
                CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| wrong(&e))?;
            if roots.is_empty() {
                return Err(wrong(&"holds no certificate"));
            }
            Verifier::new_with_extra_roots(roots, provider.clone())
        }
    }
    .map_err(|e| format!("TLS can't be set up: {e}"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS can't be set up: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::try_from(relay.host.clone()).map_err(|_| "its host can't be checked by TLS".to_owned())?;
    Ok(Some(Tls { connector: TlsConnector::from(Arc::new(config)), name }))
}
