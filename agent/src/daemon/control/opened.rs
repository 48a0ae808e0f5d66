//! Opened files that pass through the socket, with a line of JSON that tells of them.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use crate::engine::wal::MOST_HANDED;

/// The longest line, in bytes.
const LONGEST: usize = 64 << 10;

/// Room for the opened files of one message.
const SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_HANDED));

/// Sends a line, and opened files with its beginning.
///
/// # Errors
/// The system's.
pub(super) async fn send(stream: &mut UnixStream, line: &str, files: &[File]) -> io::Result<()> {
    let too_many = || io::Error::new(ErrorKind::InvalidInput, "too many files");
    if files.len() > MOST_HANDED {
        return Err(too_many());
    }
    let bytes = format!("{line}\n").into_bytes();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(too_many());
            }
            let parts = [IoSlice::new(&bytes)];
            Ok(sendmsg(&*stream, &parts, &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    stream.write_all(&bytes[sent..]).await
}

/// Receives a line, and the opened files that come with it: no more than somebody may hand over.
///
/// # Errors
/// For more of either, and an end before that of the line; the system's.
pub(in crate::daemon) async fn receive(stream: &UnixStream) -> io::Result<(String, Vec<File>)> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 4 << 10];
    while line.last() != Some(&b'\n') {
        let mut came = Vec::new();
        let (n, cut) = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); SPACE];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut buffer)];
                let got = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(opened) = message {
                        came.extend(opened.map(File::from));
                    }
                }
                Ok((got.bytes, got.flags.contains(ReturnFlags::CTRUNC)))
            })
            .await?;
        files.append(&mut came);
        line.extend_from_slice(&buffer[..n]);
        if cut || files.len() > MOST_HANDED {
            return Err(bad("too many files"));
        }
        if n == 0 || line.len() > LONGEST {
            return Err(bad("a file is handed over with one line of JSON"));
        }
    }
    let line = String::from_utf8(line).map_err(|_| bad("the line is no text"))?;
    Ok((line, files))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn files_come_as_they_were_opened_and_no_more_than_may_come() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let file = || {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(b"log").unwrap();
            file.reopen().unwrap()
        };
        send(&mut one, "{}", &[file()]).await.unwrap();
        let (line, mut files) = receive(&other).await.unwrap();
        let mut text = String::new();
        files[0].read_to_string(&mut text).unwrap();
        assert_eq!((line.as_str(), files.len(), text.as_str()), ("{}\n", 1, "log"));
        let many: Vec<File> = (0..=MOST_HANDED).map(|_| file()).collect();
        assert!(send(&mut one, "{}", &many).await.is_err());
        // In two messages.
        send(&mut one, "", &many[1..]).await.unwrap();
        let (_, files) = receive(&other).await.unwrap();
        assert_eq!(files.len(), MOST_HANDED);
        let (mut one, other) = UnixStream::pair().unwrap();
        let long = "x".repeat(LONGEST + 1);
        let (_, received) = tokio::join!(send(&mut one, &long, &[]), async {
            let received = receive(&other).await;
            drop(other);
            received
        });
        assert!(received.is_err());
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert!(receive(&other).await.is_err());
    }
}
