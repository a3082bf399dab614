//! Certificates for tests, made anew each time, and TLS configurations with them.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// The versions that a test offers.
pub type Versions = &'static [&'static SupportedProtocolVersion];

/// TLS 1.3 and 1.2.
pub const BOTH: Versions = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The cryptography of the tests.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// An authority that signs the certificates of one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for these names (or IP addresses).
    pub fn identity(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("good names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity {
            chain: vec![certificate.der().clone()],
            key: der,
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// What trusts this authority.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        roots
    }

    /// A server with a certificate for `localhost` and 127.0.0.1.
    pub fn server(&self, versions: Versions) -> ServerConfig {
        let Identity { chain, key, .. } = self.identity(&["localhost", "127.0.0.1"]);
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a server's configuration")
    }

    /// The same, for clients with a certificate of this authority.
    pub fn server_for_known(&self, versions: Versions) -> ServerConfig {
        let Identity { chain, key, .. } = self.identity(&["localhost", "127.0.0.1"]);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), provider());
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(chain, key)
            .expect("a server's configuration")
    }

    /// A client that trusts this authority.
    pub fn client(&self, versions: Versions) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// The same, with a certificate of its own.
    pub fn known_client(&self, versions: Versions) -> ClientConfig {
        let Identity { chain, key, .. } = self.identity(&["client.example"]);
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("a client's configuration")
    }
}
