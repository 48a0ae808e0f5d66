//! What was told by the channels of notifications, and which of their test messages somebody got.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::error::Fault;
use crate::rows::{all, optional, parsed, time};
use crate::schema::write;
use crate::{Catalog, CatalogError};

/// For how long it is known what is over, and which test messages there were.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);

/// One thing, as a channel was last told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldNotice {
    /// Whose it is; empty: the host's.
    pub source: String,
    /// What it is.
    pub code: String,
    /// What it is about.
    pub subject: String,
    /// How bad it is.
    pub severity: String,
    /// What was told.
    pub text: String,
    /// Since when it is so.
    pub since: Option<Timestamp>,
    /// Whether it was told as amiss, or as over.
    pub stands: bool,
    /// When it was told.
    pub told: Timestamp,
    /// How often its beginning or its end was told since `counted`.
    pub changes: u32,
    /// Since when that is counted.
    pub counted: Timestamp,
    /// Of what stands for several: what they are, as whoever told it writes it.
    pub extent: String,
}

/// A test message by a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertTest {
    /// The channel.
    pub channel: String,
    /// The code in it.
    pub code: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// When a person said that it arrived.
    pub acked: Option<Timestamp>,
}

impl Catalog {
    /// What a channel was told.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn told_notices(&self, channel: &str) -> Result<Vec<ToldNotice>, CatalogError> {
        let channel = channel.to_owned();
        self.call(move |connection| {
            let sql = "SELECT * FROM notices WHERE channel = ?1";
            all(connection, sql, [&channel], read)
        })
        .await
    }

    /// Notes what a channel was told now, and forgets what is over for long.
    ///
    /// # Errors
    /// [`Busy`](CatalogError::Busy), [`Full`](CatalogError::Full),
    /// [`ReadOnly`](CatalogError::ReadOnly), [`Io`](CatalogError::Io),
    /// [`Corrupt`](CatalogError::Corrupt): those of any write.
    pub async fn note_told(
        &self,
        channel: &str,
        at: Timestamp,
        told: Vec<ToldNotice>,
    ) -> Result<(), CatalogError> {
        let channel = channel.to_owned();
        self.call(move |connection| {
            let transaction = write(connection)?;
            for one in &told {
                put(&transaction, &channel, one)?;
            }
            let old = time(at.checked_sub(KEPT).unwrap_or(Timestamp::MIN));
            let sql = "DELETE FROM notices WHERE channel = ?1 AND stands = 0 AND told < ?2";
            transaction.execute(sql, [&channel, &old])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Test messages, the newest of each channel first.
    ///
    /// # Errors
    /// As [`backups`](Self::backups).
    pub async fn alert_tests(&self) -> Result<Vec<AlertTest>, CatalogError> {
        self.call(|connection| {
            let sql = "SELECT * FROM alert_tests ORDER BY channel, sent DESC";
            all(connection, sql, [], |row| {
                let (channel, code) = (row.get("channel")?, row.get("code")?);
                let (sent, acked) = (parsed(row, "sent")?, optional(row, "acked")?);
                Ok(AlertTest { channel, code, sent, acked })
            })
        })
        .await
    }

    /// Notes a test message that was sent, and forgets those of long ago.
    ///
    /// # Errors
    /// As [`note_told`](Self::note_told).
    pub async fn note_alert_test(
        &self,
        channel: &str,
        code: &str,
        at: Timestamp,
    ) -> Result<(), CatalogError> {
        let (channel, code) = (channel.to_owned(), code.to_owned());
        self.call(move |connection| {
            let transaction = write(connection)?;
            let sql =
                "INSERT OR REPLACE INTO alert_tests (channel, code, sent) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, [&channel, &code, &time(at)])?;
            let old = time(at.checked_sub(KEPT).unwrap_or(Timestamp::MIN));
            transaction.execute("DELETE FROM alert_tests WHERE sent < ?1", [&old])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Forgets a test message, which was not sent.
    ///
    /// # Errors
    /// As [`note_told`](Self::note_told).
    pub async fn forget_alert_test(&self, channel: &str, code: &str) -> Result<(), CatalogError> {
        let of = [channel.to_owned(), code.to_owned()];
        self.call(move |connection| {
            let sql = "DELETE FROM alert_tests WHERE channel = ?1 AND code = ?2";
            connection.execute(sql, rusqlite::params_from_iter(of))?;
            Ok(())
        })
        .await
    }

    /// Notes that a person got the test message with this code; gives its channel, if there is one.
    ///
    /// # Errors
    /// As [`note_told`](Self::note_told).
    pub async fn acknowledge(
        &self,
        code: &str,
        at: Timestamp,
    ) -> Result<Option<String>, CatalogError> {
        let code = code.to_owned();
        self.call(move |connection| {
            let transaction = write(connection)?;
            let sql = "SELECT channel FROM alert_tests WHERE code = ?1";
            let found: Vec<String> = all(&transaction, sql, [&code], |row| Ok(row.get(0)?))?;
            let sql = "UPDATE alert_tests SET acked = coalesce(acked, ?2) WHERE code = ?1";
            transaction.execute(sql, [&code, &time(at)])?;
            transaction.commit()?;
            Ok(found.into_iter().next())
        })
        .await
    }
}

fn put(connection: &Connection, channel: &str, told: &ToldNotice) -> Result<(), Fault> {
    let sql = "INSERT OR REPLACE INTO notices (channel, source, code, subject, severity, text, \
               since, stands, told, changes, counted, extent) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let row = params![
        channel,
        told.source,
        told.code,
        told.subject,
        told.severity,
        told.text,
        told.since.map(time),
        told.stands,
        time(told.told),
        told.changes,
        time(told.counted),
        told.extent,
    ];
    connection.execute(sql, row)?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<ToldNotice, Fault> {
    Ok(ToldNotice {
        source: row.get("source")?,
        code: row.get("code")?,
        subject: row.get("subject")?,
        severity: row.get("severity")?,
        text: row.get("text")?,
        since: optional(row, "since")?,
        stands: row.get("stands")?,
        told: parsed(row, "told")?,
        changes: row.get("changes")?,
        counted: parsed(row, "counted")?,
        extent: row.get("extent")?,
    })
}
