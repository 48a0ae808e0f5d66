use std::path::PathBuf;
use std::time::Duration;

use drctl_model::RepositoryId;
use serde::Serialize;
use url::Url;

use crate::diagnostic::{did_you_mean, show};
use crate::pruner::{self, Pruner};
use crate::reader::{Reader, Text};
use crate::secret::SecretRef;
use crate::units::as_optional_seconds;

/// Where backups are stored, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// As written: `file://`, `s3://`, `az://` or `gs://`. Holds no user and no password.
    pub url: String,
    /// Which repository it must be: another one in its place is refused.
    pub id: Option<RepositoryId>,
    /// What the URL and the keys beside it name.
    pub location: Location,
    /// The address of the store, when it is not the provider's own: `https://…`.
    pub endpoint: Option<String>,
    /// Whether the endpoint may be `http://`, on the loopback too.
    pub allow_http: bool,
    /// Certificates to trust beside those of the system (PEM).
    pub ca_file: Option<PathBuf>,
    /// How long one request may take. 1 second to 1 hour.
    #[serde(rename = "request_timeout_seconds", serialize_with = "as_optional_seconds")]
    pub request_timeout: Option<Duration>,
    /// What `prune` uses instead.
    pub prune: Pruner,
}

/// A place for objects. A prefix has no `/` at either end, and is empty at the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Location {
    /// A directory of this host.
    File {
        /// Absolute.
        path: PathBuf,
    },
    /// S3, or a store that speaks its protocol.
    S3 {
        /// Its name.
        bucket: String,
        /// Where in the bucket.
        prefix: String,
        /// Default: `us-east-1`.
        region: String,
        /// The bucket in the path, not in the host name. Default: whether an endpoint is given.
        path_style: bool,
        /// With `secret_access_key`, or neither.
        access_key_id: Option<SecretRef>,
        /// With `access_key_id`, or neither.
        secret_access_key: Option<SecretRef>,
        /// Only with the two above.
        session_token: Option<SecretRef>,
    },
    /// Azure Blob Storage.
    Azure {
        /// Its name.
        container: String,
        /// Where in the container.
        prefix: String,
        /// The storage account.
        account: String,
        /// Its key.
        account_key: Option<SecretRef>,
    },
    /// Google Cloud Storage.
    Google {
        /// Its name.
        bucket: String,
        /// Where in the bucket.
        prefix: String,
        /// The service account's key, as JSON.
        service_account: Option<SecretRef>,
    },
}

struct Scheme {
    name: &'static str,
    /// The keys that have a meaning beside such a URL.
    keys: &'static [&'static str],
}

const SCHEMES: &[Scheme] = &[
    Scheme { name: "file", keys: &[] },
    Scheme {
        name: "s3",
        keys: &[
            "endpoint",
            "allow_http",
            "ca_file",
            "region",
            "path_style",
            "access_key_id",
            "secret_access_key",
            "session_token",
        ],
    },
    Scheme { name: "az", keys: &["endpoint", "allow_http", "ca_file", "account", "account_key"] },
    Scheme { name: "gs", keys: &["endpoint", "allow_http", "ca_file", "service_account"] },
];

const EXAMPLES: &str = "write file:///path, s3://bucket/prefix, az://container/prefix or \
                        gs://bucket/prefix";

/// Reads `[repository]`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<Repository> {
    let allow_http = reader.flag("allow_http");
    let endpoint = read_endpoint(reader, allow_http);
    let ca_file = reader.path("ca_file");
    let request_timeout = reader.duration("request_timeout");
    let settings = Settings::read(reader);
    let id = read_id(reader);
    let url = reader.text("url");
    let place = url.as_ref().and_then(|url| read_url(reader, url));
    let of_prune = reader.section("prune");
    if let (Some(place), Some(of_prune)) = (&place, &of_prune) {
        fits_scheme(of_prune, place.scheme);
        check_s3_keys(of_prune);
    }
    let prune = of_prune.map(|of_prune| pruner::read(&of_prune)).unwrap_or_default();
    let location = place.and_then(|place| settings.locate(reader, place));
    Some(Repository {
        url: url?.value.to_owned(),
        id,
        location: location?,
        endpoint,
        allow_http: allow_http?,
        ca_file,
        request_timeout,
        prune,
    })
}

fn read_id(reader: &Reader<'_>) -> Option<RepositoryId> {
    let text = reader.text("id")?;
    let id = text.value.parse().ok();
    if id.is_none() {
        reader.report.advise(
            &text.span,
            "`id` is no identifier of a repository: 32 hexadecimal digits in lower case",
            "copy it from the recovery kit, or from `drctl doctor` on a host that is in use",
        );
    }
    id
}

/// Every key that only some stores know. All are read, so that all mistakes are found.
struct Settings {
    region: Option<String>,
    path_style: Option<bool>,
    access_key_id: Option<SecretRef>,
    secret_access_key: Option<SecretRef>,
    session_token: Option<SecretRef>,
    account: Option<String>,
    account_key: Option<SecretRef>,
    service_account: Option<SecretRef>,
}

impl Settings {
    fn read(reader: &Reader<'_>) -> Settings {
        let text = |name| reader.text(name).map(|text| text.value.to_owned());
        Settings {
            region: text("region"),
            path_style: reader.flag("path_style"),
            access_key_id: reader.secret("access_key_id"),
            secret_access_key: reader.secret("secret_access_key"),
            session_token: reader.secret("session_token"),
            account: text("account"),
            account_key: reader.secret("account_key"),
            service_account: reader.secret("service_account"),
        }
    }

    fn locate(self, reader: &Reader<'_>, place: Place) -> Option<Location> {
        fits_scheme(reader, place.scheme);
        let Place { scheme, bucket, prefix } = place;
        match scheme.name {
            "s3" => {
                check_s3_keys(reader);
                Some(Location::S3 {
                    bucket,
                    prefix,
                    region: self.region.unwrap_or_else(|| "us-east-1".to_owned()),
                    path_style: self.path_style.unwrap_or(reader.has("endpoint")),
                    access_key_id: self.access_key_id,
                    secret_access_key: self.secret_access_key,
                    session_token: self.session_token,
                })
            }
            "az" => {
                if !reader.has("account") {
                    let message = "missing key `account`: az:// needs a storage account";
                    reader.report.error(&reader.span, message);
                }
                let (account, account_key) = (self.account?, self.account_key);
                Some(Location::Azure { container: bucket, prefix, account, account_key })
            }
            "gs" => {
                Some(Location::Google { bucket, prefix, service_account: self.service_account })
            }
            _ => Some(Location::File { path: PathBuf::from(prefix) }),
        }
    }
}

/// Reports keys that have a meaning beside other URLs only.
fn fits_scheme(reader: &Reader<'_>, at: &Scheme) {
    for key in SCHEMES.iter().flat_map(|scheme| scheme.keys) {
        if reader.has(key) && !at.keys.contains(key) {
            let message = format!("`{key}` has no meaning for {}://", at.name);
            reader.report.error(&reader.span_of_key(key), message);
        }
    }
}

fn check_s3_keys(reader: &Reader<'_>) {
    let pairs = [
        ("access_key_id", "secret_access_key"),
        ("secret_access_key", "access_key_id"),
        ("session_token", "access_key_id"),
    ];
    for (key, needed) in pairs {
        if reader.has(key) && !reader.has(needed) {
            let message = format!("`{key}` needs `{needed}` beside it");
            reader.report.error(&reader.span_of_key(key), message);
        }
    }
}

/// What a URL names. Of `file://`, the prefix is the absolute path.
struct Place {
    scheme: &'static Scheme,
    bucket: String,
    prefix: String,
}

/// Reads the URL. It is never shown: there may be a secret in it, even where none belongs.
fn read_url(reader: &Reader<'_>, url: &Text<'_>) -> Option<Place> {
    if url.value.contains('@') {
        reader.report.advise(
            &url.span,
            "secret written inline in `url`",
            "a URL holds no user and password: give them as references under keys of their own",
        );
        return None;
    }
    let Some((name, rest)) = url.value.split_once("://") else {
        reader.report.advise(&url.span, "`url` has no scheme", EXAMPLES);
        return None;
    };
    let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.name == name) else {
        let advice = did_you_mean(name, SCHEMES.iter().map(|scheme| scheme.name));
        let message = format!("`{}` is no scheme of a repository", show(name));
        reader.report.advise(&url.span, message, advice.unwrap_or_else(|| EXAMPLES.to_owned()));
        return None;
    };
    let problem = if scheme.name == "file" { file_problem(rest) } else { bucket_problem(rest) };
    if let Some((message, advice)) = problem {
        reader.report.advise(&url.span, message, advice);
        return None;
    }
    if scheme.name == "file" {
        return Some(Place { scheme, bucket: String::new(), prefix: rest.to_owned() });
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/').to_owned();
    Some(Place { scheme, bucket: bucket.to_owned(), prefix })
}

type Problem = Option<(&'static str, &'static str)>;

fn file_problem(path: &str) -> Problem {
    if !path.starts_with('/') {
        return Some((
            "`url` must hold an absolute path",
            "write file:///path, with three slashes",
        ));
    }
    if path.trim_matches('/').is_empty() || path.split('/').any(|part| part == "..") {
        return Some(("`url` names no directory for a repository", "write file:///path"));
    }
    None
}

fn bucket_problem(rest: &str) -> Problem {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // The union of what S3, Azure and Google allow; each refuses the rest itself.
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edge =
        bucket.bytes().next().is_some_and(letter) && bucket.bytes().last().is_some_and(letter);
    let inner = |b: u8| letter(b) || matches!(b, b'-' | b'.' | b'_');
    if !edge || !bucket.bytes().all(inner) || !(3..=222).contains(&bucket.len()) {
        return Some((
            "`url` names no bucket: 3 to 222 of a-z, 0-9, `-`, `.` and `_`",
            "write the bucket's name after ://",
        ));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'=' | b'+');
    let good = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(word);
    if prefix.len() > 512 || !(prefix.is_empty() || prefix.split('/').all(good)) {
        return Some((
            "`url` has a bad prefix: parts of letters, digits, `-`, `.`, `_`, `=` and `+`",
            "separate the parts with single slashes",
        ));
    }
    None
}

fn read_endpoint(reader: &Reader<'_>, allow_http: Option<bool>) -> Option<String> {
    let text = reader.text("endpoint")?;
    let bad = |message: &str, advice: &str| {
        reader.report.advise(&text.span, message, advice);
        None
    };
    if text.value.contains('@') {
        return bad(
            "secret written inline in `endpoint`",
            "a URL holds no user and password: give them as references under keys of their own",
        );
    }
    let parsed = Url::parse(text.value).ok().filter(Url::has_host);
    let Some(url) = parsed.filter(|url| matches!(url.scheme(), "https" | "http")) else {
        return bad("`endpoint` is no address of a store", "write for example https://host:9000");
    };
    if url.query().is_some() || url.fragment().is_some() {
        return bad("`endpoint` must end with the host or a path", "remove `?` and `#`");
    }
    if url.scheme() == "http" && allow_http == Some(false) {
        return bad(
            "`endpoint` is not encrypted",
            "use https://, or write allow_http = true (`init --allow-http`) if you trust every host \
             on the way",
        );
    }
    Some(text.value.to_owned())
}
