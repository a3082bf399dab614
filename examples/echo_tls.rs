//! Echo over TLS: the handler of a plaintext echo, behind a `tls://` listener.
//!
//! TLS is a matter of the listener; the handler sees plaintext. What was agreed on it may ask for,
//! and this one prints it. Without `--cert` and `--key` a certificate is made at start, which
//! clients have no reason to trust.
//!
//! ```text
//! cargo run --release --features tls --example echo_tls -- --alpn h2 --alpn http/1.1
//! openssl s_client -connect localhost:9443 -servername localhost -alpn h2
//! ```

mod common;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tightloop::tls::{TlsInfo, certificates_from_pem_file, private_key_from_pem_file};
use tightloop::{Action, CloseReason, Conn, Handler, Input};

/// Echo over TLS; prints what is agreed on with each client
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: common::Args,

    /// The chain of certificates, the server's own first, a PEM file
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// Its key, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// An application protocol to offer (repeatable; the first one that the client has too is it)
    #[arg(long, value_name = "NAME")]
    alpn: Vec<String>,

    /// Ask clients for a certificate of one of these authorities, a PEM file
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_>) {
        let peer = conn.peer_addr();
        if let Some(info) = conn.tls() {
            say(&format!("{peer}: {}", agreed(info)));
        }
    }

    fn on_traffic(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> Action {
        conn.write(input.take_all());
        Action::Continue
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, (): (), reason: CloseReason) {
        say(&format!("{}: {reason}", conn.peer_addr()));
    }

    fn on_open_failed(&mut self, conn: &mut Conn<'_>, reason: CloseReason) {
        say(&format!("{}: not open: {reason}", conn.peer_addr()));
    }
}

fn say(line: &str) {
    // Nobody has to read it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn agreed(info: &TlsInfo) -> String {
    let alpn = info.alpn.as_deref().map_or("-".into(), String::from_utf8_lossy);
    format!(
        "{} {} alpn={alpn} name={} certificates={} resumed={}",
        info.version,
        info.cipher_suite,
        info.server_name.as_deref().unwrap_or("-"),
        info.peer_certificates.len(),
        info.resumed,
    )
}

/// A certificate that its own key has signed, for this machine's names for itself.
fn self_signed() -> Result<Identity, Box<dyn Error>> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn authorities(file: &Path) -> Result<RootCertStore, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_from_pem_file(file)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn configuration(flags: &Flags) -> Result<ServerConfig, Box<dyn Error>> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let (chain, key) = match (&flags.cert, &flags.key) {
        (Some(cert), Some(key)) => {
            (certificates_from_pem_file(cert)?, private_key_from_pem_file(key)?)
        }
        _ => self_signed()?,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &flags.client_ca {
        Some(file) => {
            let roots = Arc::new(authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = flags.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match configuration(&flags) {
        Ok(config) => {
            let server = common::server(&flags.common, &["tls://:9443"]).tls(config);
            common::serve(server, |_loop| Echo)
        }
        Err(error) => common::exit_code(Err(error)),
    }
}
