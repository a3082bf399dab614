//! TLS on the clients' side: listeners with `tls://`.

use tightloop::Server;

use crate::options::Flags;

/// Gives the server its certificate, if there is one.
#[cfg(feature = "tls")]
pub fn terminate(server: Server, flags: &Flags) -> Result<Server, Box<dyn std::error::Error>> {
    use std::sync::Arc;
    use tightloop::tls::TlsAcceptor;

    let (Some(certificates), Some(key)) = (&flags.tls_cert, &flags.tls_key) else {
        return Ok(server);
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(server.tls(TlsAcceptor::from_pem_files(provider, certificates, key)?))
}

#[cfg(not(feature = "tls"))]
pub fn terminate(server: Server, flags: &Flags) -> Result<Server, Box<dyn std::error::Error>> {
    match flags.tls_cert {
        Some(_) => Err("--tls-cert: built without the feature tls".into()),
        None => Ok(server),
    }
}
