//! TLS for listeners with `tls://`, where the example was built with it.

use std::error::Error;
use std::path::PathBuf;

use tightloop::Server;

use crate::common;

/// The flags for it.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// The chain of certificates of listeners with tls://, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Its key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Gives the server what the flags say.
#[cfg(feature = "tls")]
pub fn apply(server: Server, args: &Args, common: &common::Args) -> Result<Server, Box<dyn Error>> {
    use std::sync::Arc;
    use tightloop::tls::TlsAcceptor;

    let (Some(certificates), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(server);
    };
    if !common.listens_for_tls() {
        return Err("--tls-cert: it takes a listener with tls://".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(server.tls(TlsAcceptor::from_pem_files(provider, certificates, key)?))
}

/// Refuses what the flags say.
#[cfg(not(feature = "tls"))]
pub fn apply(server: Server, args: &Args, _: &common::Args) -> Result<Server, Box<dyn Error>> {
    match (&args.tls_cert, &args.tls_key) {
        (None, None) => Ok(server),
        _ => Err("--tls-cert: built without the feature tls".into()),
    }
}
