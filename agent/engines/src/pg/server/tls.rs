//! Encryption of connections, with the meaning that libpq gives to `sslmode`.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use drctl_model::SslMode;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore};
use rustls::{OtherError, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::PgServer;
use crate::common::{EngineError, believed, open_file};

/// The most bytes of a file of certificates.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// What is checked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Anyone,
    Chain,
    ChainAndName,
}

/// The encryption that a server's settings ask for; `None` for a plain connection.
pub(super) fn connector(server: &PgServer) -> Result<Option<TlsConnector>, EngineError> {
    let trust = match server.sslmode {
        _ if server.is_local() => return Ok(None),
        SslMode::Disable => return Ok(None),
        SslMode::Prefer => Trust::Anyone,
        // As in libpq: with a root certificate at hand, `require` checks the chain.
        SslMode::Require if server.ssl_root_cert.is_none() => Trust::Anyone,
        SslMode::Require | SslMode::VerifyCa => Trust::Chain,
        SslMode::VerifyFull => Trust::ChainAndName,
    };
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(trust, server.ssl_root_cert.as_deref(), &provider)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls_config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    /// Certificates of the file that was named: a server may present one of them as its own.
    named: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(
        trust: Trust,
        file: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, EngineError> {
        let provider = Arc::clone(provider);
        if trust == Trust::Anyone {
            return Ok(Verifier { trust, provider, named: Vec::new(), chain: None });
        }
        let (named, certificates) = match file {
            Some(file) => {
                let certificates = read_certificates(file)?;
                (certificates.clone(), certificates)
            }
            None => (Vec::new(), rustls_native_certs::load_native_certs().certs),
        };
        let mut roots = RootCertStore::empty();
        let (used, _) = roots.add_parsable_certificates(certificates);
        if used == 0 {
            let place = file.map_or("the system's store".into(), |f| f.display().to_string());
            return Err(EngineError::Config(format!("no root certificate was found in {place}")));
        }
        let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let chain = builder.build().map_err(tls_config)?;
        Ok(Verifier { trust, provider, named, chain: Some(chain) })
    }

    /// A self-signed certificate that was named as root is its own proof, as it is for libpq.
    fn is_named(&self, certificate: &CertificateDer<'_>, error: &CertificateError) -> bool {
        // The check of dates comes first, so this error is not raised for expired ones.
        matches!(error, CertificateError::Other(OtherError(_))) && self.named.contains(certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is checked last: with this error the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.trust == Trust::Chain => Ok(ServerCertVerified::assertion()),
            Err(Error::InvalidCertificate(error)) if self.is_named(certificate, &error) => {
                if self.trust == Trust::ChainAndName {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, EngineError> {
    let broken = |error: String| {
        EngineError::Config(format!("cannot read ssl_root_cert {}: {error}", file.display()))
    };
    believed(file)?;
    let text = read_file(file).map_err(|error| broken(error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>();
    certificates.map_err(|error| broken(error.to_string()))
}

/// A file with bounds; a pipe would keep whoever reads it.
fn read_file(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let n = open_file(file)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut text)?;
    match n as u64 > MAX_PEM_BYTES {
        true => Err(io::Error::other(format!("it has more than {MAX_PEM_BYTES} bytes"))),
        false => Ok(text),
    }
}

fn tls_config(error: impl fmt::Display) -> EngineError {
    EngineError::Config(format!("cannot set up TLS: {error}"))
}
