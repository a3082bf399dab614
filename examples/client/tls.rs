//! TLS for the client: which servers are trusted.

use std::error::Error;

use tightloop::Connect;

use crate::Flags;

/// Gives the connection its TLS, if it is to have one.
#[cfg(feature = "tls")]
pub fn secure(connect: Connect, flags: &Flags) -> Result<Connect, Box<dyn Error>> {
    use std::sync::Arc;
    use tightloop::tls::certificates_from_pem_file;

    if !flags.tls && !flags.connect.is_tls() {
        return Ok(connect);
    }
    let Some(ca) = &flags.ca else {
        return Err("TLS needs --ca FILE: the authorities to trust, as the system's \
                    /etc/ssl/certs/ca-certificates.crt"
            .into());
    };
    let mut roots = rustls::RootCertStore::empty();
    // The system's list may hold some that are too old to be understood.
    let (trusted, _) = roots.add_parsable_certificates(certificates_from_pem_file(ca)?);
    if trusted == 0 {
        return Err(format!("{}: no authority that could be trusted", ca.display()).into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(connect.tls(config))
}

#[cfg(not(feature = "tls"))]
pub fn secure(connect: Connect, flags: &Flags) -> Result<Connect, Box<dyn Error>> {
    if flags.tls || flags.ca.is_some() || flags.connect.is_tls() {
        return Err("TLS: built without the feature tls".into());
    }
    Ok(connect)
}
