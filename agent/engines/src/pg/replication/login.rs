//! From a socket to a session in replication mode.

use std::collections::BTreeMap;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::wire::{Reply, Wire, said};
use crate::common::EngineError;
use crate::pg::server::ServerError;
use crate::pg::server::ServerSaid;
use crate::pg::server::address::{CONNECT_WAIT, quote_ident};
use crate::pg::server::options::{self, Believed};
use crate::pg::server::{PgServer, link};

/// Connects, logs in, and waits until the server takes commands; tells its settings.
pub(super) async fn log_in(
    server: &PgServer,
    application: &str,
    believed: Believed,
) -> Result<(Wire, BTreeMap<String, String>), EngineError> {
    let all = async {
        let link = link::connect(server).await.map_err(|error| server.unreachable(&error))?;
        let mut wire = Wire::new(link);
        let parameters = session(&mut wire, server, application, believed).await?;
        Ok((wire, parameters))
    };
    match tokio::time::timeout(CONNECT_WAIT, all).await {
        Ok(done) => done,
        Err(_) => {
            let source = ServerSaid::new("it did not answer in time");
            Err(EngineError::from(ServerError::Connect { target: server.target(), source }))
        }
    }
}

/// Sends the startup message and answers what the server wants to know.
async fn session(
    wire: &mut Wire,
    server: &PgServer,
    application: &str,
    believed: Believed,
) -> Result<BTreeMap<String, String>, EngineError> {
    let lost = |error| server.unreachable(&error);
    let options = options::of_replication(believed);
    let parameters = [
        ("user", server.user.as_str()),
        ("replication", "true"),
        ("application_name", application),
        ("client_encoding", "UTF8"),
        // What it leaves out of a backup it tells by warnings alone.
        ("client_min_messages", "warning"),
        ("options", options.as_str()),
    ];
    wire.send(|out| frontend::startup_message(parameters, out)).await.map_err(lost)?;
    let mut login = Login { server, scram: None };
    let mut settings = BTreeMap::new();
    loop {
        let message = match wire.next().await.map_err(lost)? {
            Reply::Message(message) => message,
            Reply::CopyBoth => return Err(login.refused("it sends data before it was asked")),
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
        let lost = |error| self.server.unreachable(&error);
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
                let offered: Vec<String> =
                    body.mechanisms().map(|name| Ok(name.to_owned())).collect().unwrap_or_default();
                let offers = |wanted: &str| offered.iter().any(|name| name == wanted);
                let digest = wire.binding().map(<[u8]>::to_vec);
                let (name, binding) = match digest {
                    Some(digest) if offers(sasl::SCRAM_SHA_256_PLUS) => {
                        let binding = sasl::ChannelBinding::tls_server_end_point(digest);
                        (sasl::SCRAM_SHA_256_PLUS, binding)
                    }
                    // A server that has it after all knows by this that somebody took it away.
                    Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
                    None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
                };
                if !offers(name) {
                    return Err(self.refused(
                        "it offers no authentication method that drctl \
                                             supports",
                    ));
                }
                if self.server.needs_binding() && name != sasl::SCRAM_SHA_256_PLUS {
                    let why = "it does not support channel binding";
                    return Err(self.refused(why));
                }
                let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
                let first = scram.message().to_vec();
                self.scram = Some(scram);
                let sent = wire.send(|out| frontend::sasl_initial_response(name, &first, out));
                sent.await.map_err(lost)
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
            _ => Err(self.refused(
                "it asks for an authentication method that drctl does not \
                                   support",
            )),
        }
    }

    fn password(&self) -> Result<&str, EngineError> {
        let word = self.server.password.as_ref();
        word.map(crate::common::Secret::expose).ok_or_else(|| self.refused("it wants a password"))
    }

    fn refused(&self, why: &str) -> EngineError {
        let (target, user) = (self.server.target(), self.server.user.clone());
        EngineError::from(ServerError::Auth { target, user, source: ServerSaid::new(why) })
    }

    fn said(&self, source: ServerSaid) -> EngineError {
        let (target, user) = (self.server.target(), self.server.user.clone());
        match source.sqlstate() {
            Some(state) if state.starts_with("28") => {
                EngineError::from(ServerError::Auth { target, user, source })
            }
            // A pooler does not know our options.
            Some("08P01") => EngineError::from(ServerError::Pooler { target, source }),
            // 42704: an old server does not know all of them.
            Some("42704") => EngineError::Config(format!(
                "the server is older than PostgreSQL {}, which base backups need ({source})",
                super::LOWEST_MAJOR
            )),
            // 42501: the role lacks REPLICATION.
            Some("42501") => EngineError::from(ServerError::Permission {
                action: "read the cluster by replication".to_owned(),
                advice: format!("run `ALTER ROLE {} REPLICATION;`", quote_ident(&user)),
                user,
                source: Some(source),
            }),
            _ => EngineError::from(ServerError::Connect { target, source }),
        }
    }
}

fn odd(server: &PgServer) -> EngineError {
    let source = ServerSaid::new("the password is wrong, or the server does not know it itself");
    EngineError::from(ServerError::Auth {
        target: server.target(),
        user: server.user.clone(),
        source,
    })
}
