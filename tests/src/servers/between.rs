//! Somebody who stands between clients and a PostgreSQL server: he passes on what they say, may
//! change what the server says, and may withhold it.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::authority::Authority;

/// How often he says what he says himself, where he does.
const CHATS_EVERY: Duration = Duration::from_millis(50);

/// How a client asks for encryption.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

type Alter = dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync;

/// What he does.
#[derive(Clone)]
pub struct Between {
    server: u16,
    hush: Vec<u8>,
    /// What he says himself from then on, again and again.
    chat: Option<Vec<u8>>,
    alter: Arc<Alter>,
    tls: Option<(TlsAcceptor, TlsConnector)>,
}

impl Between {
    /// Before the server on this port of 127.0.0.1, and honest.
    #[must_use]
    pub fn before(server: u16) -> Between {
        let alter: Arc<Alter> = Arc::new(|message| message);
        Between { server, hush: Vec::new(), chat: None, alter, tls: None }
    }

    /// Withholds what the server says once a client has said this.
    #[must_use]
    pub fn silent_after(mut self, hush: &[u8]) -> Between {
        self.hush = hush.to_vec();
        self
    }

    /// Withholds what the server says once a client has said this, and sends this message again and again.
    #[must_use]
    pub fn chatty_after(mut self, hush: &[u8], chat: &[u8]) -> Between {
        self.chat = Some(chat.to_vec());
        self.silent_after(hush)
    }

    /// Passes each message of the server on as this makes it.
    #[must_use]
    pub fn altering(mut self, alter: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.alter = Arc::new(alter);
        self
    }

    /// Speaks TLS to both sides: with a certificate of his own by `authority` to clients.
    ///
    /// # Panics
    /// If these are no certificates.
    #[must_use]
    pub fn encrypted(mut self, authority: &Authority) -> Between {
        let (certificate, key) = authority.another();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let one = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let here = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![one], key)
            .expect("a certificate with its key");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes());
        roots.add(root.expect("a certificate")).expect("an authority");
        let there = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.tls = Some((TlsAcceptor::from(Arc::new(here)), TlsConnector::from(Arc::new(there))));
        self
    }

    /// Begins; gives the port of 127.0.0.1 on which he listens, for as long as the test lives.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(self) -> u16 {
        let (tell, port) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
                tell.send(listener.local_addr().expect("an address").port()).expect("a test");
                loop {
                    let (client, _) = listener.accept().await.expect("accept");
                    // Whoever hangs up ends it for the other too.
                    tokio::spawn(self.clone().stand(client));
                }
            });
        });
        port.recv().expect("a port")
    }

    async fn stand(self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server)).await?;
        let Some((here, there)) = self.tls.clone() else {
            return self.pass(client, server).await;
        };
        let mut request = [0; SSL_REQUEST.len()];
        client.read_exact(&mut request).await?;
        assert_eq!(request, SSL_REQUEST, "it is not asked for encryption");
        client.write_all(b"S").await?;
        server.write_all(&request).await?;
        assert_eq!(server.read_u8().await?, b'S', "the server has no encryption");
        let name = ServerName::try_from("localhost").expect("a name");
        let (client, server) = (here.accept(client).await?, there.connect(name, server).await?);
        self.pass(client, server).await
    }

    async fn pass(
        &self,
        client: impl AsyncRead + AsyncWrite,
        server: impl AsyncRead + AsyncWrite,
    ) -> io::Result<()> {
        let hushed = AtomicBool::new(false);
        let ((client, to_client), (server, to_server)) = (split(client), split(server));
        tokio::select! {
            done = self.hear(client, to_server, &hushed) => done,
            done = self.tell(server, to_client, &hushed) => done,
        }
    }

    /// What the client says.
    async fn hear(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        hushed: &AtomicBool,
    ) -> io::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let n = from.read(&mut bytes).await?;
            if n == 0 {
                return Ok(());
            }
            let said = &bytes[..n];
            let length = self.hush.len();
            if length > 0 && said.windows(length).any(|some| some == self.hush) {
                hushed.store(true, Ordering::SeqCst);
            }
            to.write_all(said).await?;
            to.flush().await?;
        }
    }

    /// What the server says, message by message.
    async fn tell(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        hushed: &AtomicBool,
    ) -> io::Result<()> {
        loop {
            let tag = match (&self.chat, timeout(CHATS_EVERY, from.read_u8()).await) {
                (_, Ok(tag)) => tag?,
                (Some(chat), Err(_)) if hushed.load(Ordering::SeqCst) => {
                    to.write_all(chat).await?;
                    to.flush().await?;
                    continue;
                }
                (_, Err(_)) => continue,
            };
            let length = from.read_u32().await?;
            let mut message = vec![0; length as usize + 1];
            message[0] = tag;
            message[1..5].copy_from_slice(&length.to_be_bytes());
            from.read_exact(&mut message[5..]).await?;
            if !hushed.load(Ordering::SeqCst) {
                to.write_all(&(self.alter)(message)).await?;
                to.flush().await?;
            }
        }
    }
}
