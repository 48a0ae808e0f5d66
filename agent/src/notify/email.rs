//! A mail by SMTP, encrypted with STARTTLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use drctl_model::shown;
use drctl_policies::{Channel, Email};
use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Undelivered;
use super::notice::Notice;
use crate::http::authorities;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a server may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is sent in the clear, and after which all is encrypted.
const STARTTLS: &[u8] = b"STARTTLS\r\n";

/// The most that a server may say.
const MOST_SAID: usize = 1 << 20;

/// Sends a notice to all receivers.
pub(super) async fn send(
    (channel, email): (&Channel, &Email),
    password: Option<String>,
    notice: &Notice,
    (title, body): (&str, &str),
) -> Result<(), Undelivered> {
    let message = message(email, notice, (title, body))?;
    let tls = tls(channel, email)?;
    let sending = talk((channel, email), password, (&message, tls));
    let late = |_| Err(Undelivered::now("the mail server took too long"));
    let mut connection = timeout(PATIENCE, sending).await.unwrap_or_else(late)?;
    // It is delivered: what a server says to a farewell, or whether it says anything, changes nothing.
    let _ = timeout(FAREWELL, connection.quit()).await;
    Ok(())
}

fn message(
    email: &Email,
    notice: &Notice,
    (title, body): (&str, &str),
) -> Result<Message, Undelivered> {
    let mailbox = |address: &String| {
        let read = address.parse::<Mailbox>();
        read.map_err(|error| Undelivered::at_all(format!("{}: {error}", shown(address, 100))))
    };
    let mut message = Message::builder().from(mailbox(&email.from)?).subject(title);
    for address in &email.to {
        message = message.to(mailbox(address)?);
    }
    let body = body.replace('\n', "\r\n") + "\r\n";
    let message = message.date(notice.at.into()).message_id(None).header(ContentType::TEXT_PLAIN);
    message.body(body).map_err(|error| Undelivered::at_all(error.to_string()))
}

fn tls(channel: &Channel, email: &Email) -> Result<TlsParameters, Undelivered> {
    let failed = |error: Error| Undelivered::at_all(words(&error));
    let mut tls = TlsParameters::builder(email.smtp.clone());
    if let Some(pem) = authorities(channel.ca_file.as_deref())? {
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(failed)?);
    }
    tls.build_rustls().map_err(failed)
}

async fn talk(
    (channel, email): (&Channel, &Email),
    password: Option<String>,
    (message, tls): (&Message, TlsParameters),
) -> Result<AsyncSmtpConnection, Undelivered> {
    let failed = |error: Error| match error.is_permanent() {
        true => Undelivered::at_all(words(&error)),
        false => Undelivered::now(words(&error)),
    };
    let connecting = timeout(CONNECT, TcpStream::connect((email.smtp.as_str(), email.port)));
    let stream = match connecting.await {
        Ok(stream) => {
            stream.map_err(|error| Undelivered::now(format!("no connection: {error}")))?
        }
        Err(_) => return Err(Undelivered::now("no connection in time")),
    };
    let (stream, hello) =
        (Box::new(Bounded { stream, left: MOST_SAID, singly: false }), ClientId::default());
    let connected = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
    let mut connection = connected.map_err(failed)?;
    if connection.can_starttls() {
        connection.starttls(tls, &hello).await.map_err(failed)?;
    } else if !channel.allow_plain {
        let why =
            "the mail server offers no STARTTLS, and allow_plain is not set: nothing was sent";
        return Err(Undelivered::at_all(why));
    }
    if let (Some(user), Some(password)) = (&email.user, password) {
        let who = Credentials::new(user.clone(), password);
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &who).await.map_err(failed)?;
    }
    let envelope: &Envelope = message.envelope();
    connection.send(envelope, &message.formatted()).await.map_err(failed)?;
    Ok(connection)
}

/// What went wrong, with its causes; of what a server says only its code, for it may repeat a password.
fn words(error: &Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server refused with {code}"),
        None => shown(&error.to_string(), 300),
    }
}

/// A connection on which a server may say only so much. What it says behind its answer to STARTTLS is
/// never taken for something that it said encrypted.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    left: usize,
    /// Whether STARTTLS was sent, and encryption has not begun: no byte is read ahead.
    singly: bool,
}

impl Bounded {
    /// Sees what is about to be sent: what follows STARTTLS begins the encryption.
    fn sends(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.singly && !matches!(self.stream.try_read(&mut [0]), Ok(0) | Err(_)) {
            return Err(io::Error::other(
                "the mail server, or somebody between, said more than its answer before encryption",
            ));
        }
        self.singly = bytes == STARTTLS;
        Ok(())
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = if this.singly && buffer.remaining() > 1 {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            let read = Pin::new(&mut this.stream).poll_read(context, &mut one);
            buffer.put_slice(one.filled());
            read
        } else {
            Pin::new(&mut this.stream).poll_read(context, buffer)
        };
        let came = buffer.filled().len() - before;
        match this.left.checked_sub(came) {
            Some(left) => this.left = left,
            None => return Poll::Ready(Err(io::Error::other("the mail server says too much"))),
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sends(bytes)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
