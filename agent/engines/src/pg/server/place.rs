//! What a server says of its cluster and of where that lies.

use std::path::PathBuf;

use drctl_model::{WalSegmentSize, shown};

use super::PgServer;
use super::address::typed_ident;
use super::said::ServerSaid;
use super::session::Session;
use crate::common::EngineError;

/// A server's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlace {
    /// The cluster's system identifier.
    pub system_id: u64,
    /// The size of its WAL segments.
    pub segment_size: WalSegmentSize,
    /// The server's version, such as `15.18`.
    pub version: String,
    /// The port that it listens on.
    pub port: u16,
    /// The data directory; not told to every role.
    pub data_directory: Option<PathBuf>,
    /// The account behind the socket by which it was asked, where that has a name.
    pub account: Option<String>,
    /// The first directory of its sockets; not told to every role.
    pub socket_directory: Option<PathBuf>,
}

const CLUSTER: &str = "
    SELECT system_identifier::text,
           pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))::text,
           pg_catalog.current_setting('server_version'), pg_catalog.current_setting('port')
    FROM pg_catalog.pg_control_system()";

/// A system identifier as a server tells it: a number without a sign, which a column of SQL can only
/// have with one. From the year 2038 on the sign is set.
pub(crate) fn system_id_of(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| text.parse::<i64>().ok().map(i64::cast_unsigned))
}

/// The system identifier of the cluster that a session is in, or why that is not known. Every role may
/// ask, unless the right was taken from all.
pub(crate) async fn known_cluster(session: &Session) -> Result<u64, String> {
    let asked = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let why = match session.client.query_one(asked, &[]).await {
        Ok(row) => match row.try_get::<_, String>(0).map(|text| system_id_of(&text)) {
            Ok(Some(id)) => return Ok(id),
            _ => "the server's answer is no number".to_owned(),
        },
        Err(error) => ServerSaid::from(error).to_string(),
    };
    Err(format!(
        "of which cluster it is is not known, and nothing would tell if another server answered at \
         this host and port ({}); GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {}",
        shown(&why, 300),
        typed_ident(&session.reached().user)
    ))
}

/// Asks a server. Changes nothing.
///
/// # Errors
/// Those of connecting; [`ServerError::Query`](crate::pg::server::ServerError::Query).
pub async fn cluster_place(
    server: &PgServer,
    application: &str,
) -> Result<ClusterPlace, EngineError> {
    let session = Session::open(server, &server.maintenance_database, application).await?;
    let failed = EngineError::query("ask what cluster it is");
    let row = session.client.query_one(CLUSTER, &[]).await.map_err(failed)?;
    let text = |at: usize| row.try_get::<_, String>(at).unwrap_or_default();
    let odd = || EngineError::Config("the server's answer: a number is none".to_owned());
    let number = |at: usize| text(at).parse::<u64>().map_err(|_| odd());
    let setting = async |name: &str| {
        let asked = format!("SELECT pg_catalog.current_setting('{name}')");
        let row = session.client.query_one(&asked, &[]).await.ok()?;
        row.try_get::<_, String>(0).ok().filter(|text| !text.is_empty())
    };
    let sockets = setting("unix_socket_directories").await;
    let first = sockets.as_deref().and_then(|all| all.split(',').next()).map(str::trim);
    let version = text(2);
    let segment_size = WalSegmentSize::new(number(1)?);
    let segment_size = segment_size
        .ok_or_else(|| EngineError::Config("its segments have an impossible size".to_owned()))?;
    Ok(ClusterPlace {
        system_id: system_id_of(&text(0)).ok_or_else(odd)?,
        segment_size,
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        port: u16::try_from(number(3)?).unwrap_or_default(),
        account: session.reached().require_peer.clone(),
        data_directory: setting("data_directory").await.map(PathBuf::from),
        socket_directory: first.filter(|path| path.starts_with('/')).map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_identifier_is_the_same_however_a_server_tells_it() {
        let id = (1u64 << 63) + 5;
        assert_eq!(system_id_of(&id.to_string()), Some(id));
        assert_eq!(system_id_of(&id.cast_signed().to_string()), Some(id));
        assert_eq!(system_id_of("7712989860233339943"), Some(7_712_989_860_233_339_943));
        assert_eq!(system_id_of("x"), None);
    }
}
