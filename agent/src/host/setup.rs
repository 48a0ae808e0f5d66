//! The configuration as it is used: files read, secrets fetched, the bucket opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::Secret;
use drctl_engines::pg::{PgServer, sweep};
use drctl_model::{Clock, Digest, SourceId, SystemClock};
use drctl_policies::{Config, Server, Source, SourceFile, TrustedKey};
use drctl_store::{
    Bucket, Credentials, Identities, Location, Options, Pace, Recipients, Signer, SigningKey,
    Trust, digest,
};

use super::secrets::note_identity;
use super::simulated::simulated;
use super::{
    AgentError, Limits, private, read_certificates, read_named, read_optional, read_secret, waited,
};

/// The catalog's name in the state directory.
pub(crate) const CATALOG: &str = "catalog.db";

/// Everything that the verbs need from the configuration.
#[derive(Clone)]
pub struct Setup {
    /// The configuration, checked.
    pub config: Arc<Config>,
    /// Where it was read from.
    pub path: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether key and credentials are those of `[repository.prune]`, where it names any.
    pub(crate) prunes: bool,
    /// How fast bytes may go to the bucket and come from it.
    pub(crate) paces: Vec<Arc<Pace>>,
    /// The digest of its files, where it was read from any.
    pub(crate) files_sha256: Option<Digest>,
    /// What a restored server must not see beside what this configuration names.
    pub(crate) also_hidden: Vec<PathBuf>,
}

/// Reads the configuration's files.
///
/// # Errors
/// [`AgentError::NoConfiguration`]; [`AgentError::Changeable`] for one that other accounts can change:
/// it names programs that drctl runs; [`AgentError::Configuration`] for a file that cannot be read.
pub fn read_files(path: &Path) -> Result<(SourceFile, Vec<SourceFile>)> {
    let author = private::author(path);
    private::believed(path, author)?;
    let text = match waited(|| std::fs::read_to_string(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(AgentError::NoConfiguration(path.to_owned()).into());
        }
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let main = SourceFile { name: path.display().to_string(), text };
    let directory = drctl_policies::policies_dir(&main).map_err(AgentError::Configuration)?;
    let mut policies = Vec::new();
    private::believed(&directory, author)?;
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((main, policies)),
        entries => entries.with_context(|| format!("read {}", directory.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            private::believed(&path, author)?;
            let text = waited(|| std::fs::read_to_string(&path));
            let text = text.with_context(|| format!("read {}", path.display()))?;
            policies.push(SourceFile { name: path.display().to_string(), text });
        }
    }
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((main, policies))
}

impl Setup {
    /// Reads and checks the configuration; touches nothing else.
    ///
    /// # Errors
    /// As [`read_files`]; [`AgentError::Configuration`] with every mistake in it.
    pub fn load(path: &Path) -> Result<Self> {
        let (main, policies) = read_files(path)?;
        let config = drctl_policies::parse(&main, &policies).map_err(AgentError::Configuration)?;
        let text = |file: &SourceFile| digest(file.text.as_bytes()).to_string();
        let each: Vec<_> = std::iter::once(&main).chain(&policies).map(text).collect();
        let files_sha256 = Some(digest(each.join("\n").as_bytes()));
        let (config, path, clock) = (Arc::new(config), path.to_owned(), Arc::new(SystemClock));
        let (prunes, paces, also_hidden) = (false, Vec::new(), Vec::new());
        Ok(Setup { config, path, clock, prunes, paces, files_sha256, also_hidden })
    }

    /// Where drctl keeps files of its own on this host, and what each is.
    pub(crate) fn places(&self) -> Vec<(&'static str, PathBuf)> {
        let paths = &self.config.paths;
        let mut all = vec![
            ("drctl's state directory", paths.state_dir.clone()),
            ("drctl's runtime directory", paths.runtime_dir.clone()),
            ("drctl's spool directory", paths.spool_dir.clone()),
        ];
        if let drctl_policies::Location::File { path } = &self.config.repository.location {
            all.push(("the repository", path.clone()));
        }
        all
    }

    /// The name of this host, as manifests state it.
    #[must_use]
    pub fn host(&self) -> String {
        let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.config.host.clone().unwrap_or_else(system)
    }

    /// What bounds memory.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = &self.config.limits;
        Limits {
            segment_bytes: limits.segment_bytes as u64,
            seals: limits.seals,
            puts: limits.puts,
            fetches: limits.fetches,
            page_segments: limits.page_segments as u64,
        }
    }

    /// A configured source, by its name.
    ///
    /// # Errors
    /// [`AgentError::UnknownSource`].
    pub fn source(&self, name: &str) -> Result<(&SourceId, &Source)> {
        self.configured(name).ok_or_else(|| {
            let known = self.config.sources.keys().cloned().collect();
            AgentError::UnknownSource { source_name: name.to_owned(), known }.into()
        })
    }

    /// A source, if this host has it: a repository may hold others.
    pub(crate) fn configured(&self, name: &str) -> Option<(&SourceId, &Source)> {
        self.config.sources.iter().find(|(id, _)| id.as_str() == name)
    }

    /// The bucket; nothing is sent yet.
    ///
    /// # Errors
    /// [`AgentError::Secret`]; [`StoreError`](drctl_store::StoreError) for a location that cannot be
    /// opened; the file system's for `ca_file`.
    pub fn bucket(&self) -> Result<Bucket> {
        let (location, options, credentials) = self.location()?;
        let open = || location.open(&self.config.repository.url, &options, &credentials);
        let bucket = simulated().map_or_else(open, Ok)?;
        Ok(bucket.with_pace(self.paces.clone()))
    }

    /// For how long a bucket may be silent: whoever asks must hear that nothing can be had. Two minutes,
    /// and less where a request may not take that long either.
    pub(crate) fn patience(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(120);
        let request = self.config.repository.request_timeout;
        request.map_or(LONGEST, |request| (request * 10).min(LONGEST))
    }

    /// The same for whoever reads what is large: one request may take as long as requests may.
    pub(crate) fn patience_with_data(&self) -> Duration {
        let fitting = Options::timeout_for(self.limits().segment_bytes);
        self.patience() + self.config.repository.request_timeout.unwrap_or(fitting)
    }

    fn location(&self) -> Result<(Location, Options, Credentials)> {
        use drctl_policies::Location as From;
        let repository = &self.config.repository;
        let ca_pem = repository.ca_file.as_ref().map(|path| {
            private::believed(path, private::author(path))?;
            read_certificates(path).with_context(|| format!("read {}", path.display()))
        });
        let fitting = Options::timeout_for(self.limits().segment_bytes);
        let mut options = Options {
            endpoint: repository.endpoint.clone(),
            region: None,
            path_style: false,
            allow_http: repository.allow_http,
            account: None,
            ca_pem: ca_pem.transpose()?,
            request_timeout: repository.request_timeout.unwrap_or(fitting),
        };
        let mut credentials = Credentials::default();
        let location = match &repository.location {
            From::File { path } => Location::File { directory: path.clone() },
            From::S3 { bucket, prefix, region, path_style, .. } => {
                options.region = Some(region.clone());
                options.path_style = *path_style;
                Location::S3 { bucket: bucket.clone(), prefix: prefix.clone() }
            }
            From::Azure { container, prefix, account, .. } => {
                options.account = Some(account.clone());
                Location::Azure { container: container.clone(), prefix: prefix.clone() }
            }
            From::Google { bucket, prefix, .. } => {
                Location::Google { bucket: bucket.clone(), prefix: prefix.clone() }
            }
        };
        self.credentials(&mut credentials)?;
        Ok((location, options, credentials))
    }

    /// The same configuration for whoever removes: with the key and the credentials that are meant for
    /// that, where there are any.
    #[must_use]
    pub fn for_prune(&self) -> Self {
        Setup { prunes: true, ..self.clone() }
    }

    /// The same configuration for whoever moves bytes no faster than that, too.
    pub(crate) fn at_pace(&self, pace: Arc<Pace>) -> Self {
        let mut setup = self.clone();
        setup.paces.push(pace);
        setup
    }

    fn credentials(&self, found: &mut Credentials) -> Result<()> {
        use drctl_policies::Location as From;
        let prune = &self.config.repository.prune;
        if self.prunes && prune.has_credentials() {
            let read = |name, key: &Option<_>| {
                read_optional(&format!("repository.prune.{name}"), key.as_ref())
            };
            found.access_key_id = read("access_key_id", &prune.access_key_id)?;
            found.secret_access_key = read("secret_access_key", &prune.secret_access_key)?;
            found.session_token = read("session_token", &prune.session_token)?;
            found.account_key = read("account_key", &prune.account_key)?;
            found.service_account = read("service_account", &prune.service_account)?;
            return Ok(());
        }
        match &self.config.repository.location {
            From::File { .. } => {}
            From::S3 { access_key_id, secret_access_key, session_token, .. } => {
                let id = access_key_id.as_ref();
                found.access_key_id = read_optional("repository.access_key_id", id)?;
                let secret = secret_access_key.as_ref();
                found.secret_access_key = read_optional("repository.secret_access_key", secret)?;
                let token = session_token.as_ref();
                found.session_token = read_optional("repository.session_token", token)?;
            }
            From::Azure { account_key, .. } => {
                let key = account_key.as_ref();
                found.account_key = read_optional("repository.account_key", key)?;
            }
            From::Google { service_account, .. } => {
                let key = service_account.as_ref();
                found.service_account = read_optional("repository.service_account", key)?;
            }
        }
        Ok(())
    }

    /// The keys whose manifests we believe.
    ///
    /// # Errors
    /// [`KeyError`](drctl_store::KeyError) for a key that is damaged.
    pub fn trust(&self) -> Result<Trust> {
        // What this host is configured for its own key may sign, whatever is written beside it.
        let own = self.any_signing_key().ok().map(|key| key.verifying_key().to_string());
        let here = |trusted: &TrustedKey| own.as_ref() == Some(&trusted.key);
        let all = || self.config.sources.keys().cloned();
        let signer = |trusted: &TrustedKey| {
            let more = here(trusted).then(all).into_iter().flatten();
            let sources = trusted.sources.iter().cloned();
            let sources =
                sources.map(|bound| bound.into_iter().chain(more.clone()).collect()).next();
            Ok::<_, anyhow::Error>(Signer {
                key: trusted.key.parse()?,
                name: trusted.name.clone(),
                sources,
                roles: trusted.roles.clone(),
            })
        };
        let signers = self.config.keys.verifying_keys.iter().map(signer);
        Ok(Trust::of(signers.collect::<Result<_, _>>()?))
    }

    /// Whom backups are encrypted to.
    ///
    /// # Errors
    /// [`KeyError`](drctl_store::KeyError) for a recipient that is damaged.
    pub fn recipients(&self) -> Result<Recipients> {
        Ok(Recipients::parse(self.config.keys.recipients.iter().map(String::as_str))?)
    }

    /// The key that signs, whether or not what it signs is believed: to look at, never to sign with.
    ///
    /// # Errors
    /// [`AgentError::NoSigningKey`], [`AgentError::Secret`], a key that is damaged.
    pub fn any_signing_key(&self) -> Result<SigningKey> {
        let reference = self.config.keys.signing_key.as_ref().ok_or(AgentError::NoSigningKey)?;
        Ok(read_secret("keys.signing_key", reference)?.parse::<SigningKey>()?)
    }

    /// The key to sign with: everything that signs has it from here. What it signs is believed here,
    /// or PostgreSQL would let go of log, and people of old backups, that nobody can use.
    ///
    /// # Errors
    /// As [`any_signing_key`](Self::any_signing_key); [`AgentError::Unpinned`].
    pub fn signing_key(&self) -> Result<SigningKey> {
        let key = match self.config.repository.prune.signing_key.as_ref().filter(|_| self.prunes) {
            Some(key) => read_secret("repository.prune.signing_key", key)?.parse::<SigningKey>()?,
            None => self.any_signing_key()?,
        };
        let verifying = key.verifying_key();
        if self.trust()?.iter().any(|trusted| *trusted == verifying) {
            return Ok(key);
        }
        Err(AgentError::Unpinned(verifying.to_string()).into())
    }

    /// The identities at hand: those in `file`, else those of the configuration, else none.
    ///
    /// # Errors
    /// [`AgentError::Secret`] for a file that is not there; [`KeyError`](drctl_store::KeyError) for
    /// one that holds none.
    pub fn identities(&self, file: Option<&Path>) -> Result<Option<Identities>> {
        let text = match (file, &self.config.keys.identity) {
            (Some(path), _) => Some(read_named("the identity", path)?),
            (None, Some(reference)) => Some(read_secret("keys.identity", reference)?),
            (None, None) => None,
        };
        note_identity(text.is_some());
        Ok(text.map(|text| Identities::parse(&text)).transpose()?)
    }

    /// The catalog's file.
    #[must_use]
    pub fn catalog_path(&self) -> PathBuf {
        self.config.paths.state_dir.join(CATALOG)
    }

    /// The files of the policies, as they lie there now.
    ///
    /// # Errors
    /// As [`read_files`].
    pub(crate) fn policy_files(&self) -> Result<Vec<PathBuf>> {
        let (_, policies) = read_files(&self.path)?;
        Ok(policies.into_iter().map(|file| PathBuf::from(file.name)).collect())
    }

    /// Where the agent of this host is spoken with.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        let socket = self.config.agent.socket.clone();
        socket.unwrap_or_else(|| self.config.paths.runtime_dir.join("agent.sock"))
    }

    /// Makes a directory that only we can look into, where it is missing.
    ///
    /// # Errors
    /// [`AgentError::NotPrivate`] for one that others may change; the file system's.
    pub fn private_directory(&self, path: &Path) -> Result<()> {
        private::directory(path)
    }

    /// How a source's PostgreSQL server is reached.
    ///
    /// # Errors
    /// [`AgentError::Usage`] for a source that has none; [`AgentError::Secret`] for a password that is not there; [`AgentError::NotPrivate`] for the
    /// runtime directory; [`EngineError`](drctl_engines::EngineError) where it cannot be swept.
    pub fn server(&self, source: &Source) -> Result<PgServer> {
        let none = || {
            let text = "this source has no PostgreSQL server: its engine backs up something else";
            AgentError::Usage(text.to_owned())
        };
        let pg = source.engine.server().ok_or_else(none)?;
        let password = read_optional("the source's password", pg.password.as_ref())?;
        self.private_directory(&self.config.paths.runtime_dir)?;
        // Password files of a process that was killed; those of a living process are left alone.
        sweep(&self.config.paths.runtime_dir).context("sweep the runtime directory")?;
        if self.config.paths.spool_dir.exists() {
            sweep(&self.config.paths.spool_dir).context("sweep the spool directory")?;
        }
        Ok(pg_server(pg, password, &self.config.paths.runtime_dir))
    }
}

fn pg_server(pg: &Server, password: Option<String>, runtime_dir: &Path) -> PgServer {
    PgServer {
        host: pg.host.clone(),
        port: pg.port,
        user: pg.user.clone(),
        maintenance_database: pg.maintenance_database.clone(),
        password: password.map(Secret::new),
        sslmode: pg.sslmode,
        ssl_root_cert: pg.ssl_root_cert.clone(),
        require_peer: pg.require_peer.clone(),
        bin_dir: pg.bin_dir.clone(),
        runtime_dir: runtime_dir.to_owned(),
        options: Vec::new(),
        silence: pg.silence,
    }
}
