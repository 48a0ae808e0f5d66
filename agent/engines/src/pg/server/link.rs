//! A connection to a server, before anything is said on it: encrypted as it was asked for, its
//! silences and the lengths of its messages bounded.

mod asked;
mod binding;
mod ends;
mod guard;
mod waits;

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use drctl_model::SslMode;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::PgServer;
use super::address::CONNECT_WAIT;
use super::peer;
use super::spelling::unspelled_startup;
use super::tls::connector;
use ends::Ends;
use guard::Guard;
pub(crate) use guard::WITHHELD;
pub(in crate::pg) use waits::Patience;
use waits::Waits;

/// A server that says nothing for so long is asked by TCP whether it is there, so often, and as
/// many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// How long bytes that were sent may remain without the word that they came.
const UNANSWERED: Duration = Duration::from_secs(30);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection.
pub(in crate::pg) struct Link {
    socket: Box<dyn Socket>,
    guard: Guard,
    /// What binds a login to this very encryption, where there is one.
    binding: Option<Vec<u8>>,
    /// The account behind a socket, where it has a name.
    account: Option<String>,
    waits: Waits,
    first: First,
    /// Where copied rows are only counted: what is handed on of them.
    ends: Option<Ends>,
}

/// The first message of a session, where it names a database whose name is spelled.
#[derive(Debug, Default)]
enum First {
    /// It goes as it is, or is gone.
    #[default]
    Whatever,
    /// It is awaited, with what has come of it.
    Awaited(Vec<u8>),
    /// The name is in it; so much of it is still to be sent.
    Rest(Vec<u8>),
}

impl Link {
    /// The session's first message names its database by bytes, and not as it is spelled.
    pub(super) fn unspell(&mut self) {
        self.first = First::Awaited(Vec::new());
    }

    /// Takes what is written of a first message that is awaited; how much of it.
    fn take_first(&mut self, bytes: &[u8]) -> usize {
        let First::Awaited(message) = &mut self.first else { return 0 };
        let wanted = |message: &[u8]| message.first_chunk().map_or(4, |n| u32::from_be_bytes(*n));
        let mut taken = 0;
        loop {
            let missing = (wanted(message) as usize).saturating_sub(message.len());
            let more = missing.min(bytes.len() - taken);
            message.extend_from_slice(&bytes[taken..taken + more]);
            taken += more;
            if more < missing {
                return taken;
            }
            if message.len() > 4 || missing == 0 {
                self.first = First::Rest(unspelled_startup(message));
                return taken;
            }
        }
    }

    /// Sends what is left of the first message.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let First::Rest(rest) = &mut self.first {
            if rest.is_empty() {
                self.first = First::Whatever;
                break;
            }
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            rest.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    /// The account of the server behind a socket, which was found right.
    pub(super) fn account(&self) -> Option<String> {
        self.account.clone()
    }

    pub(in crate::pg) fn patience(&self) -> Patience {
        self.waits.patience.clone()
    }

    /// What was asked has taken its time to send: its answer is due from now on.
    pub(in crate::pg) fn is_sent(&mut self) {
        self.waits.nothing_is_due();
    }

    /// From now on only the ends of copied rows are handed on: rows may be as long as a server has them.
    pub(super) fn count_copied(&mut self) {
        self.guard.bears_long_rows();
        self.ends = Some(Ends::default());
    }

    pub(in crate::pg) fn binding(&self) -> Option<&[u8]> {
        self.binding.as_deref()
    }

    /// Reads what the server sends, and looks at it.
    fn poll_seen(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buf) {
            Poll::Pending => return self.waits.poll_silence(cx, self.guard.is_ready()).map(Err),
            Poll::Ready(read) => read?,
        }
        let came = &buf.filled()[before..];
        let seen = match self.guard.look(came) {
            Ok(_) if came.is_empty() => Ok(()),
            Ok(seen) => self.waits.came(seen, self.guard.is_ready()),
            Err(error) => Err(error),
        };
        if seen.is_err() {
            // Nobody answers what must not be asked.
            buf.set_filled(before);
        }
        Poll::Ready(seen)
    }

    /// Writes, and gives up a server that takes nothing.
    fn poll_sent(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let First::Awaited(_) = self.first {
            return Poll::Ready(Ok(self.take_first(buf)));
        }
        ready!(self.poll_first(cx))?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }
}

/// Connects, and encrypts.
pub(in crate::pg) async fn connect(server: &PgServer) -> io::Result<Link> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time");
    let wait = CONNECT_WAIT.min(server.silence);
    timeout(wait, connected(server)).await.unwrap_or_else(|_| Err(late()))
}

async fn connected(server: &PgServer) -> io::Result<Link> {
    if server.is_local() {
        let path = Path::new(&server.host).join(format!(".s.PGSQL.{}", server.port));
        let stream = UnixStream::connect(path).await?;
        let account = peer::believed(server, &stream)?;
        return Ok(Link { account, ..link(server, Box::new(stream), None) });
    }
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
    stream.set_nodelay(true)?;
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(time);
    let keepalive = keepalive.with_interval(interval).with_retries(retries);
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    match connector(server).map_err(io::Error::other)? {
        Some(tls) => encrypted(server, stream, tls).await,
        None => Ok(link(server, Box::new(stream), None)),
    }
}

fn link(server: &PgServer, socket: Box<dyn Socket>, binding: Option<Vec<u8>>) -> Link {
    let guard = Guard::new(server.is_proven());
    let patience = Patience::new(server.quick());
    Link {
        socket,
        guard,
        binding,
        account: None,
        waits: Waits::new(patience),
        first: First::Whatever,
        ends: None,
    }
}

async fn encrypted(
    server: &PgServer,
    mut stream: TcpStream,
    tls: TlsConnector,
) -> io::Result<Link> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    if stream.read_u8().await? != b'S' {
        if server.sslmode == SslMode::Prefer {
            return Ok(link(server, Box::new(stream), None));
        }
        return Err(io::Error::other("the server does not offer encryption (TLS)"));
    }
    let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
    let failed = |error| io::Error::other(format!("TLS: {error}"));
    let stream = tls.connect(name, stream).await.map_err(failed)?;
    let certificates = stream.get_ref().1.peer_certificates();
    let binding = certificates.and_then(|all| all.first()).and_then(binding::end_point);
    Ok(link(server, Box::new(stream), binding))
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut ends) = this.ends.take() else { return this.poll_seen(cx, buf) };
        let read = ends.poll_fill(|piece| this.poll_seen(cx, piece));
        if let Poll::Ready(Ok(())) = read {
            ends.hand_on(buf);
        }
        this.ends = Some(ends);
        read
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.guard.asks();
        this.waits.asked(cx);
        let sent = this.poll_sent(cx, buf);
        let written = ready!(this.waits.poll_taken(cx, sent))?;
        this.guard.asked(&buf[..written], written < buf.len());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match this.poll_first(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.socket).poll_flush(cx),
            first => first,
        };
        this.waits.poll_taken(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl TlsStream for Link {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.binding {
            Some(digest) => ChannelBinding::tls_server_end_point(digest.clone()),
            None => ChannelBinding::none(),
        }
    }
}

/// Tells `tokio-postgres` that a link is as encrypted as it shall be.
pub(super) struct AsItIs;

impl TlsConnect<Link> for AsItIs {
    type Stream = Link;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Link>>;

    fn connect(self, link: Link) -> Self::Future {
        std::future::ready(Ok(link))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn pair(patience: Duration) -> (Link, tokio::io::DuplexStream) {
        let (near, far) = duplex(1 << 16);
        let (guard, patience) = (Guard::new(true), Patience::new(patience));
        let socket: Box<dyn Socket> = Box::new(near);
        let link = Link {
            socket,
            guard,
            binding: None,
            account: None,
            waits: Waits::new(patience),
            first: First::Whatever,
            ends: None,
        };
        (link, far)
    }

    #[tokio::test]
    async fn a_spelled_name_is_sent_in_its_bytes_however_it_is_written() {
        let message = |name: &[u8]| {
            let fields = [&b"database\0"[..], name, b"\0\0"].concat();
            let length = u32::try_from(fields.len() + 8).unwrap().to_be_bytes();
            [&length[..], &[0, 3, 0, 0], &fields].concat()
        };
        let (written, sent) = (message("d\u{fffd}e9".as_bytes()), message(b"d\xe9"));
        for at in 0..written.len() {
            let (mut link, mut far) = pair(Duration::from_secs(60));
            link.unspell();
            link.write_all(&written[..at]).await.unwrap();
            link.write_all(&written[at..]).await.unwrap();
            link.write_all(b"p\xef\xbf\xbde9").await.unwrap();
            link.flush().await.unwrap();
            drop(link);
            let mut came = Vec::new();
            far.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, [&sent[..], b"p\xef\xbf\xbde9"].concat(), "{at}");
        }
    }

    /// The first message, of no settings.
    const STARTUP: &[u8] = b"\0\0\0\x08\0\x03\0\0";
    const QUERY: &[u8] = b"Q\0\0\0\x05\0";
    /// A prepared statement is closed.
    const CLOSE: &[u8] = b"C\0\0\0\x08Ss0\0S\0\0\0\x04";
    const READY: &[u8] = b"Z\0\0\0\x05I";

    /// The same, logged in.
    async fn welcomed(patience: Duration) -> (Link, tokio::io::DuplexStream) {
        let (mut link, mut far) = pair(patience);
        link.write_all(STARTUP).await.unwrap();
        let welcome = [&b"R\0\0\0\x08\0\0\0\0"[..], READY].concat();
        far.write_all(&welcome).await.unwrap();
        let mut read = vec![0; welcome.len()];
        link.read_exact(&mut read).await.unwrap();
        (link, far)
    }

    #[tokio::test]
    async fn a_silence_has_an_end_wherever_it_begins() {
        for begun in [&b""[..], b"T", b"T\0\0\0\x08ab"] {
            let (mut link, mut far) = welcomed(Duration::from_millis(200)).await;
            // Nothing is due: nothing is missed.
            let idle = timeout(Duration::from_millis(500), link.read_u8()).await;
            assert!(idle.is_err());
            link.write_all(QUERY).await.unwrap();
            far.write_all(begun).await.unwrap();
            let error = link.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        }
    }

    #[tokio::test]
    async fn the_end_of_an_earlier_answer_is_not_that_of_a_later_one() {
        let (mut link, mut far) = welcomed(Duration::from_millis(200)).await;
        link.write_all(CLOSE).await.unwrap();
        link.write_all(QUERY).await.unwrap();
        far.write_all(&[&b"3\0\0\0\x04"[..], READY].concat()).await.unwrap();
        let ended = timeout(Duration::from_secs(5), link.read_to_end(&mut Vec::new())).await;
        let error = ended.expect("it is given up").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_or_does_not_leave_is_given_up() {
        for last in [vec![b'x'; 1 << 20], b"X\0\0\0\x04".to_vec()] {
            let (mut link, _far) = welcomed(Duration::from_millis(200)).await;
            let (mut reads, mut writes) = tokio::io::split(&mut link);
            let writing = async {
                let _ = writes.write_all(&last).await;
                std::future::pending::<()>().await;
            };
            let mut read = Vec::new();
            let ended = tokio::select! {
                ended = timeout(Duration::from_secs(5), reads.read_to_end(&mut read)) => ended,
                () = writing => unreachable!("it waits"),
            };
            assert!(ended.is_ok_and(|read| read.is_err()), "{} bytes", last.len());
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_is_given_up_by_whoever_only_writes() {
        let (mut link, _far) = welcomed(Duration::from_millis(200)).await;
        let written = timeout(Duration::from_secs(5), link.write_all(&[b'x'; 1 << 20])).await;
        let error = written.expect("it is given up").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("taken nothing"), "{error}");
    }

    /// How a reader ends to whom a server that copies to him sends this again and again; nothing where it does
    /// not end soon.
    async fn flooded(message: &[u8]) -> Option<io::Error> {
        let (mut link, mut far) = welcomed(Duration::from_secs(1)).await;
        link.write_all(QUERY).await.unwrap();
        far.write_all(b"H\0\0\0\x04").await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let endless = async {
            while far.write_all(message).await.is_ok() {
                ticks.tick().await;
            }
        };
        let reading = async {
            let mut read = [0; 64];
            loop {
                if let Err(error) = link.read(&mut read).await {
                    return error;
                }
            }
        };
        tokio::select! {
            error = timeout(Duration::from_secs(4), reading) => error.ok(),
            () = endless => unreachable!("somebody reads"),
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up_and_copied_data_is_not() {
        for (kind, ends) in [(&b"D\0\0\0\x06\0\0"[..], true), (b"d\0\0\0\x05x", false)] {
            let ended = flooded(kind).await.map(|error| error.to_string());
            assert_eq!(ended.is_some(), ends, "{ended:?}");
            assert!(ended.is_none_or(|error| error.contains("without an end for 2 s")));
        }
    }

    #[tokio::test]
    async fn notices_are_no_answer_however_many_there_are() {
        for (beside, answers) in
            [(&b"N\0\0\0\x05\0"[..], false), (b"S\0\0\0\x06a\0", false), (b"d\0\0\0\x05x", true)]
        {
            let kind = flooded(beside).await.map(|error| error.kind());
            assert_eq!(kind, (!answers).then_some(io::ErrorKind::TimedOut), "{beside:?}");
        }
    }
}
