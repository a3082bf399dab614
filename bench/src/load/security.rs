//! TLS of the client: which servers are trusted, and what they are called.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tightloop::tls::{TlsConnector, certificates_from_pem_file};

use super::options::Options;
use super::target::Target;

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What makes the TLS sessions; none where the URL has none.
pub fn connector(options: &Options, target: &Target) -> Result<Option<TlsConnector>, String> {
    if !target.endpoint.is_tls() {
        let is_given = options.ca.is_some() || options.insecure || options.server_name.is_some();
        return match is_given {
            true => Err(format!("{}: has no TLS that the options could be for", target.url)),
            false => Ok(None),
        };
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let config = if options.insecure {
        let anybody = Arc::new(Anybody { provider });
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    } else {
        builder.with_root_certificates(authorities(options.ca.as_deref())?).with_no_client_auth()
    };
    let mut connector = TlsConnector::new(config);
    if let Some(name) = &options.server_name {
        connector = connector
            .with_server_name(name)
            .map_err(|error| format!("--server-name {name}: {error}"))?;
    }
    Ok(Some(connector))
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = file.or_else(system) else {
        return Err("TLS: no authorities are known on this system: give --ca FILE, or --insecure \
                    to take any certificate"
            .to_owned());
    };
    let refused = |error: &dyn Display| format!("--ca {}: {error}", path.display());
    let certificates = certificates_from_pem_file(path).map_err(|error| refused(&error))?;
    let mut roots = RootCertStore::empty();
    // The system's list may hold some that are too old to be understood.
    let (trusted, _) = roots.add_parsable_certificates(certificates);
    if trusted == 0 {
        return Err(refused(&"no authority that could be trusted"));
    }
    Ok(roots)
}

/// Takes any certificate, of which only the signatures are checked. For `--insecure`.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
