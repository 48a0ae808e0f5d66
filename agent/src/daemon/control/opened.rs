//! Opened files that pass through the socket, with a line of JSON that tells of them.

use std::fs::File;
use std::io::{self, ErrorKind};

use drctl_engines::{receive_opened, send_opened};
use tokio::net::UnixStream;

use crate::engine::wal::MOST_HANDED;

/// Sends a line, and opened files with its beginning.
///
/// # Errors
/// The system's.
pub(super) async fn send(stream: &mut UnixStream, line: &str, files: &[File]) -> io::Result<()> {
    if files.len() > MOST_HANDED {
        return Err(io::Error::new(ErrorKind::InvalidInput, "too many files"));
    }
    send_opened(stream, line, files).await
}

/// Receives a line, and the opened files that come with it: no more than somebody may hand over.
///
/// # Errors
/// For more of either, and an end before that of the line; the system's.
pub(in crate::daemon) async fn receive(stream: &UnixStream) -> io::Result<(String, Vec<File>)> {
    let (line, files) = receive_opened(stream, MOST_HANDED).await?;
    Ok((line, files.into_iter().map(File::from).collect()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use drctl_engines::LONGEST_LINE as LONGEST;

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
