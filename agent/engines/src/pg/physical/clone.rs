//! A restored cluster as a server that people use for a while: opened for writing, masked, and let in with a password.

use std::path::Path;

use drctl_model::shown;

use super::Layout;
use super::forced::forced;
use super::guard::guard;
use super::names::{databases, superusers};
use super::private::Private;
use super::scratch::{LOG, Scratch, places, server};
use super::settings::source_settings;
use super::surroundings::{Surroundings, read_plain};
use crate::common::EngineError;
use crate::common::sandbox::Sandbox;
use crate::pg::server::{ServerError, ServerSaid, major_of};

/// The role as which people log in who come by an exposed way: the only one that has a password.
pub const CLONE_USER: &str = "drctl_clone";

/// What people expect of a server beside what every server of a restore is given.
const SETTINGS: &[(&str, &str)] = &[
    ("default_transaction_read_only", "off"),
    ("autovacuum", "on"),
    ("password_encryption", "scram-sha-256"),
];

/// Tells databases that take connections.
const DATABASES: &str =
    "SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

impl Scratch {
    /// Starts the server of a cluster that was recovered and made one of its own, in a sandbox in which `hidden` is
    /// not seen. It takes what is written to it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn of_cluster(
        layout: &Layout,
        bin_dir: &Path,
        (sandbox, hidden): (&Sandbox, Vec<std::path::PathBuf>),
    ) -> Result<Self, EngineError> {
        let data = layout.data();
        let roles = superusers(&data);
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let first = *roles.first().ok_or_else(|| {
            EngineError::Config("the cluster's superusers cannot be told from its files".to_owned())
        })?;
        let major = read_plain(&data.join("PG_VERSION")).as_deref().and_then(major_of);
        let major = major.unwrap_or_default();
        let private = Private::make(&roles, "")?;
        let around = Surroundings::of_scratch(sandbox, hidden);
        let mut arguments = places(layout, &private);
        let own = forced(major).chain(SETTINGS.iter().copied());
        let own = own.map(|(name, value)| (name, value.to_owned()));
        let none = [("shared_preload_libraries", String::new())];
        for (name, value) in own.chain(none).chain(source_settings(bin_dir, &data)) {
            arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let server = server((&private, first), bin_dir, major);
        let below = layout.root().and_then(|root| root.append(Path::new(LOG)));
        let log = below.map_err(EngineError::io("write the log of the clone"))?;
        // The source's own settings are for its host, and may name what is not here, or what must not be loaded.
        guard(layout)?;
        let child = around.start((layout, bin_dir, &private), &arguments, log)?;
        Scratch::begun(child, (server, private), (&data.with_file_name(LOG), &databases(&data)))
            .await
    }

    /// The databases that take connections, by their names.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub async fn databases(&self) -> Result<Vec<String>, EngineError> {
        let failed = |error| EngineError::query("list the databases")(error);
        let rows = self.session(None).await?.client.query(DATABASES, &[]).await.map_err(failed)?;
        let name = |row: &tokio_postgres::Row| row.try_get(0);
        rows.iter().map(name).collect::<Result<_, _>>().map_err(failed)
    }

    /// Tells why it ended by itself, where it has.
    ///
    /// # Errors
    /// [`ServerError::Query`].
    pub fn still_runs(&mut self) -> Result<(), EngineError> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(EngineError::from(ServerError::Query {
                action: "keep the clone's server".to_owned(),
                source: ServerSaid::new(shown(&format!("it ended by itself ({status})"), 300)),
            })),
        }
    }
}
