//! Opened files that pass through a socket, with a line of text that tells of them.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

/// The longest line, in bytes.
pub const LONGEST_LINE: usize = 64 << 10;

/// Room for the opened files of one message.
fn room(files: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(files))]
}

/// Sends a line, and opened files with its beginning.
///
/// # Errors
/// [`io::Error`]: the system's.
pub async fn send_opened(
    stream: &mut UnixStream,
    line: &str,
    files: &[impl AsFd],
) -> io::Result<()> {
    let bytes = format!("{line}\n").into_bytes();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let mut space = room(files.len());
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(io::Error::new(ErrorKind::InvalidInput, "too many files"));
            }
            let parts = [IoSlice::new(&bytes)];
            Ok(sendmsg(&*stream, &parts, &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    stream.write_all(&bytes[sent..]).await
}

/// Receives a line, and the opened files that come with it: no more than `most`.
///
/// # Errors
/// [`io::Error`]: for more of either, and an end before that of the line; the system's.
pub async fn receive_opened(
    stream: &UnixStream,
    most: usize,
) -> io::Result<(String, Vec<OwnedFd>)> {
    let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 4 << 10];
    while line.last() != Some(&b'\n') {
        let mut came = Vec::new();
        let (n, cut) = stream
            .async_io(Interest::READABLE, || {
                let mut space = room(most);
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut buffer)];
                let got = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(opened) = message {
                        came.extend(opened);
                    }
                }
                Ok((got.bytes, got.flags.contains(ReturnFlags::CTRUNC)))
            })
            .await?;
        files.append(&mut came);
        line.extend_from_slice(&buffer[..n]);
        if cut || files.len() > most {
            return Err(bad("too many files"));
        }
        if n == 0 || line.len() > LONGEST_LINE {
            return Err(bad("opened files come with one line of text"));
        }
    }
    let line = String::from_utf8(line).map_err(|_| bad("the line is no text"))?;
    Ok((line, files))
}
