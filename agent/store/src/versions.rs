use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    timeout::TimeoutConfig,
};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::BucketVersioningStatus;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use bytes::Bytes;
use jiff::Timestamp;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use tokio::time::timeout;

use crate::StoreError;
use crate::answers::Elsewhere;
use crate::bounded::{ANSWER, Bounded};
use crate::error::{says_denied, whole};
use crate::location::Options;
use crate::silence::asked;

/// The verbs that only S3 has: versions of objects and Object Lock.
///
/// Checksums are computed and expected only "when required": the SDK's default trailers are not
/// understood by many S3 servers, and every object of ours has a SHA-256 in a signed list.
#[derive(Clone)]
pub struct Versions {
    client: aws_sdk_s3::Client,
    bucket: String,
    prefix: String,
    /// For one whole request.
    request_timeout: Duration,
}

/// One version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object's key, relative to the repository.
    pub key: Path,
    /// The version's identifier.
    pub id: String,
    /// Its length; 0 for a delete marker.
    pub bytes: u64,
    /// Whether it is what a plain GET finds.
    pub latest: bool,
    /// Whether it says that the object was deleted.
    pub delete_marker: bool,
    /// When the store got it, by its own clock; nothing where it does not tell.
    pub stored: Option<Timestamp>,
}

/// What is to be walked over.
pub(crate) struct Walk<'a> {
    /// What all keys begin with.
    pub(crate) prefix: &'a str,
    /// Only names below the prefix that sort behind this one.
    pub(crate) after: Option<&'a str>,
    /// Only what lies directly there, and the names of folders.
    pub(crate) folders: bool,
}

/// What a walk shows.
pub(crate) enum Seen {
    /// A version or a delete marker.
    Version(ObjectVersion),
    /// A folder, by its name.
    Folder(String),
}

/// A bucket's default retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRule {
    /// `COMPLIANCE`, `GOVERNANCE`, or nothing where Object Lock is on without a default.
    pub mode: Option<String>,
    /// How long a new object cannot be removed.
    pub days: Option<i32>,
}

#[derive(Debug)]
struct Bridge(Arc<AmazonS3>);

impl ProvideCredentials for Bridge {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.0.credentials().get_credential().await;
            let found = found.map_err(CredentialsError::provider_error)?;
            Ok(Credentials::new(
                found.key_id.clone(),
                found.secret_key.clone(),
                found.token.clone(),
                None,
                "drctl",
            ))
        })
    }
}

impl Versions {
    /// The same bucket, with the same credentials, through the other client.
    pub(crate) fn new(store: &Arc<AmazonS3>, bucket: &str, prefix: &str, o: &Options) -> Self {
        let mut trust = TrustStore::default();
        if let Some(pem) = &o.ca_pem {
            trust = trust.with_pem_certificate(pem.as_slice());
        }
        let tls = TlsContext::builder().with_trust_store(trust).build();
        let mut http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
        if let Ok(tls) = tls {
            http = http.tls_context(tls);
        }
        let region = o.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let timeouts = TimeoutConfig::builder().operation_timeout(o.request_timeout).build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(Bridge(Arc::clone(store))))
            .http_client(http.build_https())
            .force_path_style(o.path_style)
            .timeout_config(timeouts)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &o.endpoint {
            config = config.endpoint_url(endpoint);
        }
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let (bucket, request_timeout) = (bucket.to_owned(), o.request_timeout);
        Versions { client, bucket, prefix, request_timeout }
    }

    /// Whether the bucket keeps older versions of objects.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn enabled(&self) -> Result<bool, StoreError> {
        let request = self.client.get_bucket_versioning().bucket(&self.bucket);
        let request = request.customize().interceptor(Bounded(ANSWER));
        let answer = asked(request.send()).await;
        let answer = answer.map_err(|e| failed("ask for the bucket's versioning", &e))?;
        Ok(answer.status() == Some(&BucketVersioningStatus::Enabled))
    }

    /// Whether it keeps older versions of what it has, whatever it does from now on.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn keeps(&self) -> Result<bool, StoreError> {
        let request = self.client.get_bucket_versioning().bucket(&self.bucket);
        let request = request.customize().interceptor(Bounded(ANSWER));
        let answer = asked(request.send()).await;
        let answer = answer.map_err(|e| failed("ask for the bucket's versioning", &e))?;
        Ok(answer.status().is_some())
    }

    /// The bucket's Object Lock; nothing where it has none.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn lock(&self) -> Result<Option<LockRule>, StoreError> {
        let request = self.client.get_object_lock_configuration().bucket(&self.bucket);
        let request = request.customize().interceptor(Bounded(ANSWER));
        let sent = asked(request.send()).await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let code = error.as_service_error().and_then(|e| e.meta().code());
                if code == Some("ObjectLockConfigurationNotFoundError") {
                    return Ok(None);
                }
                return Err(failed("ask for the bucket's Object Lock", &error));
            }
        };
        let Some(lock) = answer.object_lock_configuration() else { return Ok(None) };
        let rule = lock.rule().and_then(|rule| rule.default_retention());
        Ok(Some(LockRule {
            mode: rule.and_then(|r| r.mode()).map(|mode| mode.as_str().to_owned()),
            days: rule.and_then(|r| r.days().or_else(|| r.years().map(|years| years * 365))),
        }))
    }

    /// All versions of what lies below `prefix`, a thousand at a time handed to `each`.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn list(
        &self,
        prefix: &Path,
        mut each: impl FnMut(ObjectVersion),
    ) -> Result<(), StoreError> {
        let walk = Walk { prefix: prefix.as_ref(), after: None, folders: false };
        self.walk(&walk, &mut |seen| {
            if let Seen::Version(version) = seen {
                each(version);
            }
            ControlFlow::Continue(())
        })
        .await
    }

    /// The names of the folders below `prefix`, those too in which everything was deleted.
    pub(crate) async fn folders(&self, prefix: &Path) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let below = format!("{prefix}/");
        let walk = Walk { prefix: &below, after: None, folders: true };
        self.walk(&walk, &mut |seen| {
            if let Seen::Folder(name) = seen {
                found.push(name);
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(found)
    }

    /// Hands versions and folders to `each` until it has enough.
    pub(crate) async fn walk(
        &self,
        walk: &Walk<'_>,
        each: &mut impl FnMut(Seen) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let prefix = format!("{}{}", self.prefix, walk.prefix);
        let mut key_marker = walk.after.map(|after| format!("{prefix}{after}"));
        let mut version_marker = None;
        let mut versions_asked = BTreeSet::new();
        loop {
            let behind: Option<String> = key_marker.clone();
            let request = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(&prefix)
                .set_delimiter(walk.folders.then(|| "/".to_owned()))
                .set_key_marker(key_marker.take())
                .set_version_id_marker(version_marker.take())
                .customize()
                .interceptor(Bounded(ANSWER));
            let page =
                asked(request.send()).await.map_err(|e| failed("list object versions", &e))?;
            let is_empty = page.versions().is_empty() && page.delete_markers().is_empty();
            if is_empty && page.common_prefixes().is_empty() && page.name().is_none() {
                return Err(StoreError::NoListing);
            }
            for version in page.versions() {
                let bytes = u64::try_from(version.size().unwrap_or(0)).unwrap_or(0);
                let latest = version.is_latest().unwrap_or(false);
                let stored = moment(version.last_modified());
                let named = (version.key(), version.version_id());
                let seen = self.entry(named, bytes, (latest, false), stored);
                if seen.is_some_and(|seen| each(Seen::Version(seen)).is_break()) {
                    return Ok(());
                }
            }
            for marker in page.delete_markers() {
                let latest = marker.is_latest().unwrap_or(false);
                let stored = moment(marker.last_modified());
                let named = (marker.key(), marker.version_id());
                let seen = self.entry(named, 0, (latest, true), stored);
                if seen.is_some_and(|seen| each(Seen::Version(seen)).is_break()) {
                    return Ok(());
                }
            }
            for folder in page.common_prefixes().iter().filter_map(|folder| folder.prefix()) {
                let name = folder.strip_prefix(&prefix).unwrap_or_default().trim_end_matches('/');
                if each(Seen::Folder(name.to_owned())).is_break() {
                    return Ok(());
                }
            }
            if !page.is_truncated().unwrap_or(false) {
                return Ok(());
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
            if key_marker.is_none() {
                return Err(cut());
            }
            // What is behind a key is asked for next, or behind one more of its versions.
            if key_marker > behind {
                versions_asked.clear();
            }
            if key_marker < behind || !versions_asked.insert(version_marker.clone()) {
                return Err(StoreError::Repeats);
            }
        }
    }

    fn entry(
        &self,
        (key, id): (Option<&str>, Option<&str>),
        bytes: u64,
        (latest, delete_marker): (bool, bool),
        stored: Option<Timestamp>,
    ) -> Option<ObjectVersion> {
        let key = Path::parse(key?.strip_prefix(&self.prefix)?).ok()?;
        Some(ObjectVersion { key, id: id?.to_owned(), bytes, latest, delete_marker, stored })
    }

    /// All versions of one object, those that hold bytes newest first.
    ///
    /// # Errors
    /// [`StoreError::S3`].
    pub async fn of(&self, key: &Path) -> Result<Vec<ObjectVersion>, StoreError> {
        let mut found = Vec::new();
        self.list(key, |version| {
            if version.key == *key {
                found.push(version);
            }
        })
        .await?;
        Ok(found)
    }

    /// Removes one version of an object, or one delete marker, for good; its absence is success.
    ///
    /// # Errors
    /// [`StoreError::S3`], also where it is locked.
    pub(crate) async fn remove(&self, key: &Path, version: &str) -> Result<(), StoreError> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(format!("{}{key}", self.prefix))
            .version_id(version)
            .customize()
            .interceptor(Bounded(ANSWER));
        let sent = asked(request.send()).await;
        match sent.map_err(|e| failed("delete an object version", &e)) {
            Err(StoreError::S3 { service, .. }) if service.contains("NoSuchVersion") => Ok(()),
            done => done.map(drop),
        }
    }

    /// Reads one version of an object, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::S3`], [`StoreError::TooLarge`].
    pub async fn get(&self, version: &ObjectVersion, limit: u64) -> Result<Bytes, StoreError> {
        let key = &version.key;
        if version.bytes > limit {
            return Err(StoreError::TooLarge { key: key.clone(), bytes: version.bytes, limit });
        }
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(format!("{}{key}", self.prefix))
            .version_id(&version.id)
            .customize()
            .interceptor(Bounded(usize::try_from(limit).unwrap_or(usize::MAX).max(ANSWER)));
        let verb = "get an object version";
        let broken = |service| StoreError::S3 { verb, service, denied: false };
        let reading = async {
            let answer = request.send().await.map_err(|e| failed(verb, &e))?;
            let body = answer.body.collect().await;
            body.map(|body| body.into_bytes()).map_err(|error| broken(error.to_string()))
        };
        // The client's own bound ends where the answer begins, and bytes may come one by one for ever.
        let late = || broken("it took longer than a request may (request_timeout)".to_owned());
        let read = timeout(self.request_timeout, reading);
        asked(async { read.await.unwrap_or_else(|_| Err(late())) }).await
    }
}

fn moment(told: Option<&DateTime>) -> Option<Timestamp> {
    Timestamp::from_second(told?.secs()).ok()
}

/// A page of a listing that is not the last, and leads nowhere.
fn cut() -> StoreError {
    let service = "the answer is cut, and does not say where to go on".to_owned();
    StoreError::S3 { verb: "list object versions", service, denied: false }
}

fn failed<E>(verb: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: std::error::Error + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    let header = |name| error.raw_response()?.headers().get(name);
    if let Some(elsewhere) = status.and_then(|status| Elsewhere::of(status, header)) {
        return StoreError::Elsewhere { verb, said: elsewhere.to_string() };
    }
    let denied = matches!(status, Some(401 | 403)) || says_denied(error);
    StoreError::S3 { verb, service: whole(error), denied }
}
