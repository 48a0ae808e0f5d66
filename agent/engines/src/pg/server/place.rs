//! What a server says of its cluster and of where that lies.

use std::path::PathBuf;

use drctl_model::WalSegmentSize;

use super::PgServer;
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
    let number = |at: usize| {
        let said = |why: &'static str| EngineError::Config(format!("the server's answer: {why}"));
        text(at).parse::<u64>().map_err(|_| said("a number is none"))
    };
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
        system_id: number(0)?,
        segment_size,
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        port: u16::try_from(number(3)?).unwrap_or_default(),
        account: session.reached().require_peer.clone(),
        data_directory: setting("data_directory").await.map(PathBuf::from),
        socket_directory: first.filter(|path| path.starts_with('/')).map(PathBuf::from),
    })
}
