//! What users give for TLS: [`TlsAcceptor`] for the side that is connected to, [`TlsConnector`] for
//! the side that connects. Both wrap a configuration of rustls, with the cryptography that the user
//! has chosen for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::error::TlsError;
use crate::tls::session;
use crate::tls::{MakeNamedSession, MakeSession};

/// The TLS of accepted connections: a configuration of rustls that can be replaced while the server
/// serves. Clones share it; all methods may be called from any thread.
///
/// Which certificate a client gets by the name that it asks for (SNI), which protocols are offered
/// (ALPN), whether clients need certificates, and resumption are settings of the `ServerConfig`.
///
/// ```no_run
/// # use tightloop::Server;
/// # use tightloop::{Action, Conn, Handler, Input};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type State = ();
/// #     fn on_open(&mut self, _: &mut Conn<'_>) {}
/// #     fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
/// #         conn.write(input.take_all());
/// #         Action::Continue
/// #     }
/// # }
/// use std::sync::Arc;
/// use tightloop::tls::TlsAcceptor;
///
/// let ring = Arc::new(rustls::crypto::ring::default_provider());
/// let acceptor = TlsAcceptor::from_pem_files(ring, "chain.pem", "key.pem")?;
/// Server::new().listen_tls("tls://:9443", &acceptor).run(|_| Echo)?;
/// // Meanwhile, where the certificate was renewed: `acceptor.replace(config)`.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl TlsAcceptor {
    /// An acceptor with this configuration.
    pub fn new(config: impl Into<Arc<ServerConfig>>) -> Self {
        TlsAcceptor { config: Arc::new(RwLock::new(config.into())) }
    }

    /// An acceptor with one chain of certificates, the server's own first, and its key, from PEM
    /// files; clients need no certificate. The key may be in the format PKCS #8, PKCS #1 or SEC 1.
    /// Blocks while it reads.
    ///
    /// # Errors
    /// What cannot be read or understood, and a key that does not fit the certificate.
    pub fn from_pem_files(
        provider: Arc<CryptoProvider>,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, PemError> {
        let key_path = key.as_ref();
        let refused = |error: rustls::Error| PemError::new(key_path, error);
        let chain = certificates_from_pem_file(certificates)?;
        let key = private_key_from_pem_file(key_path)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        Ok(TlsAcceptor::new(config))
    }

    /// Replaces the configuration: handshakes that begin from now on use the new one, connections
    /// that are open keep theirs.
    pub fn replace(&self, config: impl Into<Arc<ServerConfig>>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config.into();
    }

    /// The present configuration.
    pub fn config(&self) -> Arc<ServerConfig> {
        // Nobody panics while holding it; the value is whole in any case.
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn sessions(&self) -> MakeSession {
        let acceptor = self.clone();
        Arc::new(move || session::server(acceptor.config()))
    }
}

impl From<ServerConfig> for TlsAcceptor {
    fn from(config: ServerConfig) -> Self {
        TlsAcceptor::new(config)
    }
}

impl From<Arc<ServerConfig>> for TlsAcceptor {
    fn from(config: Arc<ServerConfig>) -> Self {
        TlsAcceptor::new(config)
    }
}

impl From<&TlsAcceptor> for TlsAcceptor {
    fn from(acceptor: &TlsAcceptor) -> Self {
        acceptor.clone()
    }
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

/// The TLS of connections that are made: a configuration of rustls, and the name that the server's
/// certificate is checked for.
///
/// ```
/// use std::sync::Arc;
/// use rustls::{ClientConfig, RootCertStore};
/// use tightloop::Client;
/// use tightloop::tls::TlsConnector;
///
/// let ring = Arc::new(rustls::crypto::ring::default_provider());
/// let roots = RootCertStore::empty(); // with the authorities that you trust
/// let config = ClientConfig::builder_with_provider(ring)
///     .with_safe_default_protocol_versions()?
///     .with_root_certificates(roots)
///     .with_no_client_auth();
/// let client = Client::new().tls_client(TlsConnector::new(config));
/// # Ok::<(), rustls::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl TlsConnector {
    /// A connector that checks the server's certificate for the host of the endpoint.
    pub fn new(config: impl Into<Arc<ClientConfig>>) -> Self {
        TlsConnector { config: config.into(), name: None }
    }

    /// Checks the server's certificate for this host name or IP address, and asks the server for
    /// it, whatever the endpoint says. Needed where the endpoint has no host name.
    ///
    /// # Errors
    /// For what is neither a host name nor an IP address.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, InvalidDnsNameError> {
        self.name = Some(ServerName::try_from(name)?.to_owned());
        Ok(self)
    }

    pub(crate) fn sessions(&self) -> MakeNamedSession {
        let TlsConnector { config, name } = self.clone();
        Arc::new(move |host| {
            let name = match (&name, host) {
                (Some(name), _) => name.clone(),
                (None, Some(host)) => ServerName::try_from(host.to_owned()).map_err(|error| {
                    TlsError::new(format!("{host} is no name to check a certificate for: {error}"))
                })?,
                (None, None) => {
                    let what = "there is no name to check the certificate for";
                    return Err(TlsError::new(what));
                }
            };
            session::client(Arc::clone(&config), name)
        })
    }
}

impl From<ClientConfig> for TlsConnector {
    fn from(config: ClientConfig) -> Self {
        TlsConnector::new(config)
    }
}

impl From<Arc<ClientConfig>> for TlsConnector {
    fn from(config: Arc<ClientConfig>) -> Self {
        TlsConnector::new(config)
    }
}

impl From<&TlsConnector> for TlsConnector {
    fn from(connector: &TlsConnector) -> Self {
        connector.clone()
    }
}

/// Which side of a handshake [`Conn::start_tls`](crate::Conn::start_tls) takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StartTls {
    /// The server's side: waits for the peer to begin.
    Server(TlsAcceptor),
    /// The client's side: begins. The connector needs a server name.
    Client(TlsConnector),
}

impl StartTls {
    pub(crate) fn sessions(&self) -> MakeSession {
        match self {
            StartTls::Server(acceptor) => acceptor.sessions(),
            StartTls::Client(connector) => {
                let make = connector.sessions();
                Arc::new(move || make(None))
            }
        }
    }
}

impl From<TlsAcceptor> for StartTls {
    fn from(acceptor: TlsAcceptor) -> Self {
        StartTls::Server(acceptor)
    }
}

impl From<&TlsAcceptor> for StartTls {
    fn from(acceptor: &TlsAcceptor) -> Self {
        StartTls::Server(acceptor.clone())
    }
}

impl From<TlsConnector> for StartTls {
    fn from(connector: TlsConnector) -> Self {
        StartTls::Client(connector)
    }
}

impl From<&TlsConnector> for StartTls {
    fn from(connector: &TlsConnector) -> Self {
        StartTls::Client(connector.clone())
    }
}

/// The certificates in a PEM file, at least one. Blocks while it reads.
///
/// # Errors
/// What cannot be read or understood, and a file without a certificate.
pub fn certificates_from_pem_file(
    path: impl AsRef<Path>,
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let path = path.as_ref();
    let refused = |error: pem::Error| PemError::new(path, error);
    let found = CertificateDer::pem_file_iter(path).map_err(refused)?;
    let certificates = found.collect::<Result<Vec<_>, _>>().map_err(refused)?;
    if certificates.is_empty() {
        return Err(PemError::new(path, "there is no certificate in it"));
    }
    Ok(certificates)
}

/// The first private key in a PEM file, of the format PKCS #8, PKCS #1 or SEC 1. Blocks while it
/// reads.
///
/// # Errors
/// What cannot be read or understood, and a file without a key.
pub fn private_key_from_pem_file(
    path: impl AsRef<Path>,
) -> Result<PrivateKeyDer<'static>, PemError> {
    let path = path.as_ref();
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::new(path, "there is no private key in it"),
        error => PemError::new(path, error),
    })
}

/// Why a PEM file is of no use.
#[derive(Debug)]
pub struct PemError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl PemError {
    fn new(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        PemError { path: path.to_owned(), source: source.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for PemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl From<PemError> for io::Error {
    fn from(error: PemError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
