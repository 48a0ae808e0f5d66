//! What an operator can do about an error of the store.

use std::io;

use super::{StoreError, io_kind};

impl StoreError {
    /// What the operator can do about it, as an imperative sentence.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self.code() {
            "store_denied" => {
                "check the credentials, their expiry, and what the bucket's policy grants; of a directory, \
                 that drctl's account owns it and may write there. `drctl doctor` shows which right is \
                 missing. What was committed before is as it was"
            }
            "store_moved" => {
                "put the repository's directory back, or mount its file system again, and run the \
                 command again: nothing was written into what is there now, and all that was \
                 acknowledged is in the directory that was moved"
            }
            "store_endless" | "store_no_listing" => {
                "correct repository.endpoint, or check for a proxy between this host and the \
                 store: what answers is not a bucket, and its lists are not trusted"
            }
            "store_elsewhere" => {
                "set repository.region and repository.endpoint to those of the bucket: another place \
                 would get signatures and data. If you know of none, find out who answers"
            }
            "store_no_bucket" => {
                "correct the URL or the endpoint (repository.url, repository.endpoint; `init` takes the \
                 URL and --endpoint), or make the bucket: drctl makes none. Nothing was \
                 written"
            }
            "store_full" => {
                "free space on the repository's disk; nothing that was committed is touched, and \
                 the next run starts anew"
            }
            "store_conflict" => {
                "two writers used one identifier, or somebody wrote by hand; look at the object \
                 before anything else, drctl never overwrites it"
            }
            "store_bad_key" => {
                "somebody wrote an object with a name that cannot be read here: remove or rename \
                 it with the bucket's own client. What is committed is safe, and restores without \
                 a listing: `drctl restore SOURCE --backup` with the whole identifier"
            }
            "store_missing" => {
                "check the repository's URL and prefix; if the bucket keeps versions, a deleted \
                 object is still there: see `drctl catalog check`"
            }
            "store_no_object" => {
                "somebody put it into the repository's directory: remove it there; it was not opened"
            }
            "store_too_large" => "somebody else wrote this object; it was not read",
            "store_read_back" => "do not trust this store: it acknowledged bytes it does not hold",
            "store_open" if self.has_no_directory() => {
                "is the file system mounted? Mount it, or correct repository.url. Nothing was \
                 written; drctl does not make the repository's directory"
            }
            "store_open" => "correct [repository] in the configuration; `drctl config check` helps",
            _ => {
                "check that the bucket can be reached; `drctl doctor` tries each step. What was committed \
                 before is as it was"
            }
        })
    }

    /// Whether the directory that would be opened is not there.
    fn has_no_directory(&self) -> bool {
        let StoreError::Open { source, .. } = self else { return false };
        io_kind(&**source) == Some(io::ErrorKind::NotFound)
    }
}
