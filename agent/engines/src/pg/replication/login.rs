//! From a socket to a session in replication mode.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect as _};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::wire::{Reply, Socket, Wire, said};
use crate::pg::PgServer;
use crate::pg::server::{CONNECT_WAIT, quote_ident};
use crate::pg::tls::{SslMode, connector};
use crate::{EngineError, ServerSaid};

/// A server that says nothing for so long is gone, as far as TCP can tell.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects, logs in, and waits until the server takes commands; tells its settings.
pub(super) async fn log_in(
    server: &PgServer,
    application: &str,
) -> Result<(Wire, BTreeMap<String, String>), EngineError> {
    let target = server.target();
    let all = async {
        let socket = connect(server).await.map_err(unreachable(&target))?;
        let mut wire = Wire::new(socket);
        let parameters = session(&mut wire, server, application).await?;
        Ok((wire, parameters))
    };
    match tokio::time::timeout(CONNECT_WAIT, all).await {
        Ok(done) => done,
        Err(_) => {
            let source = ServerSaid::new("it did not answer in time");
            Err(EngineError::Connect { target, source })
        }
    }
}

fn unreachable(target: &str) -> impl Fn(io::Error) -> EngineError + use<> {
    let target = target.to_owned();
    move |error| {
        let source = ServerSaid::new(error.to_string());
        EngineError::Connect { target: target.clone(), source }
    }
}

async fn connect(server: &PgServer) -> io::Result<Box<dyn Socket>> {
    if server.is_local() {
        let path = Path::new(&server.host).join(format!(".s.PGSQL.{}", server.port));
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    match connector(server).map_err(io::Error::other)? {
        Some(tls) => encrypt(stream, tls, server).await,
        None => Ok(Box::new(stream)),
    }
}

async fn encrypt(
    mut stream: TcpStream,
    mut tls: MakeRustlsConnect,
    server: &PgServer,
) -> io::Result<Box<dyn Socket>> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    if stream.read_u8().await? != b'S' {
        if server.sslmode == SslMode::Prefer {
            return Ok(Box::new(stream));
        }
        return Err(io::Error::other("the server does not offer encryption"));
    }
    let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &server.host);
    let stream = connect.map_err(io::Error::other)?.connect(stream).await;
    Ok(Box::new(stream.map_err(|error| io::Error::other(error.to_string()))?))
}

/// Sends the startup message and answers what the server wants to know.
async fn session(
    wire: &mut Wire,
    server: &PgServer,
    application: &str,
) -> Result<BTreeMap<String, String>, EngineError> {
    let lost = unreachable(&server.target());
    let parameters = [
        ("user", server.user.as_str()),
        ("replication", "true"),
        ("application_name", application),
        ("client_encoding", "UTF8"),
        // What it leaves out of a copy it tells by warnings alone.
        ("client_min_messages", "warning"),
    ];
    wire.send(|out| frontend::startup_message(parameters, out)).await.map_err(&lost)?;
    let mut login = Login { server, scram: None };
    let mut settings = BTreeMap::new();
    loop {
        let message = match wire.next().await.map_err(&lost)? {
            Reply::Message(message) => message,
            Reply::CopyBoth => return Err(login.refused("it copies before it was asked")),
        };
        match message {
            Message::ErrorResponse(error) => return Err(login.said(said(&error))),
            Message::ParameterStatus(status) => {
                if let (Ok(name), Ok(value)) = (status.name(), status.value()) {
                    settings.insert(name.to_owned(), value.to_owned());
                }
            }
            Message::ReadyForQuery(_) => return Ok(settings),
            other => login.answer(wire, other).await?,
        }
    }
}

struct Login<'a> {
    server: &'a PgServer,
    scram: Option<ScramSha256>,
}

impl Login<'_> {
    async fn answer(&mut self, wire: &mut Wire, message: Message) -> Result<(), EngineError> {
        let lost = unreachable(&self.server.target());
        match message {
            Message::AuthenticationCleartextPassword => {
                let word = self.password()?.as_bytes();
                wire.send(|out| frontend::password_message(word, out)).await.map_err(lost)
            }
            Message::AuthenticationMd5Password(body) => {
                let user = self.server.user.as_bytes();
                let hash = md5_hash(user, self.password()?.as_bytes(), body.salt());
                let sent = wire.send(|out| frontend::password_message(hash.as_bytes(), out));
                sent.await.map_err(lost)
            }
            Message::AuthenticationSasl(body) => {
                let known = body.mechanisms().any(|name| Ok(name == sasl::SCRAM_SHA_256));
                if !known.unwrap_or(false) {
                    return Err(self.refused("it offers no authentication that drctl knows"));
                }
                // tokio-postgres keeps the certificate's digest to itself: no channel binding.
                let binding = sasl::ChannelBinding::unsupported();
                let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
                let first = scram.message().to_vec();
                self.scram = Some(scram);
                let write = wire
                    .send(|out| frontend::sasl_initial_response(sasl::SCRAM_SHA_256, &first, out));
                write.await.map_err(lost)
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| odd(self.server))?;
                scram.update(body.data()).map_err(|_| odd(self.server))?;
                let reply = scram.message().to_vec();
                wire.send(|out| frontend::sasl_response(&reply, out)).await.map_err(lost)
            }
            Message::AuthenticationSaslFinal(body) => {
                let scram = self.scram.as_mut().ok_or_else(|| odd(self.server))?;
                // The server proves here that it knows the password too.
                scram.finish(body.data()).map_err(|_| odd(self.server))
            }
            Message::AuthenticationOk | Message::BackendKeyData(_) => Ok(()),
            _ => Err(self.refused("it wants an authentication that drctl does not know")),
        }
    }

    fn password(&self) -> Result<&str, EngineError> {
        let word = self.server.password.as_ref();
        word.map(crate::Secret::expose).ok_or_else(|| self.refused("it wants a password"))
    }

    fn refused(&self, why: &str) -> EngineError {
        let (target, user) = (self.server.target(), self.server.user.clone());
        EngineError::Auth { target, user, source: ServerSaid::new(why) }
    }

    fn said(&self, source: ServerSaid) -> EngineError {
        let (target, user) = (self.server.target(), self.server.user.clone());
        match source.sqlstate() {
            Some(state) if state.starts_with("28") => EngineError::Auth { target, user, source },
            // 42501: the role lacks REPLICATION.
            Some("42501") => EngineError::Permission {
                action: "read the cluster by replication".to_owned(),
                advice: format!("run `ALTER ROLE {} REPLICATION;`", quote_ident(&user)),
                user,
                source: Some(source),
            },
            _ => EngineError::Connect { target, source },
        }
    }
}

fn odd(server: &PgServer) -> EngineError {
    let source = ServerSaid::new("the password is wrong, or the server does not know it itself");
    EngineError::Auth { target: server.target(), user: server.user.clone(), source }
}
