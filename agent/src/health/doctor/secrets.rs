//! Secrets that others on this host can read.

use std::os::unix::fs::PermissionsExt as _;

use drctl_policies::{Config, Location, SecretRef};

use crate::host::{Checks, Setup};

/// Every secret that the configuration names, and what it is called there.
fn all(config: &Config) -> Vec<(String, &SecretRef)> {
    let of_keys = [
        ("keys.signing_key", config.keys.signing_key.as_ref()),
        ("keys.identity", config.keys.identity.as_ref()),
    ];
    let of_repository = match &config.repository.location {
        Location::File { .. } => vec![],
        Location::S3 { access_key_id, secret_access_key, session_token, .. } => vec![
            ("repository.access_key_id", access_key_id.as_ref()),
            ("repository.secret_access_key", secret_access_key.as_ref()),
            ("repository.session_token", session_token.as_ref()),
        ],
        Location::Azure { account_key, .. } => {
            vec![("repository.account_key", account_key.as_ref())]
        }
        Location::Google { service_account, .. } => {
            vec![("repository.service_account", service_account.as_ref())]
        }
    };
    let named = of_keys.into_iter().chain(of_repository).map(|(name, key)| (name.to_owned(), key));
    let of_prune = config.repository.prune.secrets().into_iter();
    let named = named.chain(of_prune.map(|(name, key)| (format!("repository.prune.{name}"), key)));
    let of_sources = config.sources.iter().flat_map(|(id, source)| {
        let secrets = source.engine.secrets().into_iter();
        secrets.map(move |(name, key)| (format!("source.{id}.{name}"), key))
    });
    let of_channels = config.notify.iter().flat_map(|(channel, settings)| {
        let secrets = settings.secrets().into_iter();
        secrets.map(move |(name, key)| (format!("notify.{channel}.{name}"), key))
    });
    let of_pings = config.sources.iter().flat_map(|(id, source)| {
        let urls = source.ping_urls().into_iter();
        urls.map(move |(_, name, url)| (format!("source.{id}.{name}"), url))
    });
    let of_agent = config.agent.ping_url.iter().map(|url| ("agent.ping_url".to_owned(), url));
    let of_hooks = config.hooks.iter().flat_map(|(hook, settings)| {
        let secrets = settings.secrets().into_iter();
        secrets.map(move |(name, key)| (format!("hooks.{hook}.{name}"), key))
    });
    let of_channels = of_channels.chain(of_pings).chain(of_agent).chain(of_hooks);
    let named = named.filter_map(|(name, key)| Some((name, key?)));
    named.chain(of_sources).chain(of_channels).collect()
}

/// Looks at the files of all of them.
pub(super) fn open_secrets(setup: &Setup, found: &mut Checks) {
    for (check, key) in all(&setup.config) {
        let SecretRef::File(path) = key else { continue };
        let mode = std::fs::metadata(path).map(|file| file.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            let text = format!("others on this host may read {}", path.display());
            let hint = "take the file's rights away from group and others (chmod 600)";
            found.warn(&check, text, hint);
        }
    }
}
