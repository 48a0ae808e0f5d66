use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};

use crate::answers::{Answers, CONNECT};
use crate::listing::Listing;
use crate::rooted::Rooted;
use crate::{Bucket, StoreError, Versions};

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory, written with fsync of files and directories.
    File {
        /// The directory; it has to exist.
        directory: PathBuf,
    },
    /// Any store that speaks S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// What all keys begin with; empty for none.
        prefix: String,
    },
    /// Azure Blob storage.
    Azure {
        /// The container.
        container: String,
        /// What all keys begin with; empty for none.
        prefix: String,
    },
    /// Google Cloud Storage.
    Google {
        /// The bucket.
        bucket: String,
        /// What all keys begin with; empty for none.
        prefix: String,
    },
}

/// Who we are to the store. Empty: the environment's and the machine's own (`AWS_*`, instance
/// roles, workload identities), as object_store finds them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// S3: the access key's id.
    pub access_key_id: Option<String>,
    /// S3: the secret access key.
    pub secret_access_key: Option<String>,
    /// S3: the session's token.
    pub session_token: Option<String>,
    /// Azure: the account's key.
    pub account_key: Option<String>,
    /// Google: a service account's key, as JSON.
    pub service_account: Option<String>,
}

/// How the store is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// Another server than the provider's own.
    pub endpoint: Option<String>,
    /// S3: the region.
    pub region: Option<String>,
    /// S3: the bucket's name stands in the path, not in the host name.
    pub path_style: bool,
    /// Allow a plain `http://` endpoint.
    pub allow_http: bool,
    /// Azure: the account's name.
    pub account: Option<String>,
    /// PEM of a certificate authority to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// For one whole request; [`Options::timeout_for`] gives one that fits the segments.
    pub request_timeout: Duration,
}

impl Options {
    /// A time-out in which a segment of this size goes through at 1 Mbit/s, and 30 seconds more.
    #[must_use]
    pub fn timeout_for(segment_bytes: u64) -> Duration {
        Duration::from_secs(30 + segment_bytes / 125_000)
    }
}

/// Has the TLS of this process use ring: the HTTP stacks are built without a cryptography library of
/// their own.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Location {
    /// Opens the place; nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Open`] with the reason.
    pub fn open(
        &self,
        url: &str,
        options: &Options,
        credentials: &Credentials,
    ) -> Result<Bucket, StoreError> {
        use_ring();
        self.build(url, options, credentials)
            .map(|bucket| bucket.at(options.endpoint.as_deref()))
            .map_err(|source| StoreError::Open { url: url.to_owned(), source })
    }

    fn build(&self, url: &str, o: &Options, c: &Credentials) -> Result<Bucket, Cause> {
        match self {
            Location::File { directory } => {
                let rooted = Rooted::open(directory)?;
                Ok(Bucket::new(Arc::new(rooted.clone()), url).with_directory(rooted))
            }
            Location::S3 { bucket, prefix } => {
                let store = Arc::new(s3(bucket, o, c)?);
                let versions = Versions::new(&store, bucket, prefix, o);
                let listing = Arc::new(Listing::new(store, true));
                Ok(Bucket::new(below(listing, prefix), url).with_versions(versions))
            }
            Location::Azure { container, prefix } => {
                // Where it has directories they come in an order of their own.
                let listing = Arc::new(Listing::new(Arc::new(azure(container, o, c)?), false));
                Ok(Bucket::new(below(listing, prefix), url))
            }
            Location::Google { bucket, prefix } => {
                let listing = Arc::new(Listing::new(Arc::new(google(bucket, o, c)?), true));
                Ok(Bucket::new(below(listing, prefix), url))
            }
        }
    }
}

fn below<S: ObjectStore>(store: Arc<S>, prefix: &str) -> Arc<dyn ObjectStore> {
    if prefix.is_empty() { store } else { Arc::new(PrefixStore::new(store, Path::from(prefix))) }
}

/// What [`Answers`] makes a client of; it has the authorities itself.
fn client(options: &Options) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(options.allow_http)
        .with_timeout(options.request_timeout)
        .with_connect_timeout(CONNECT)
}

/// A few quick tries for what passes at once; the bucket's own verbs try on above this.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(60),
    }
}

fn s3(bucket: &str, o: &Options, c: &Credentials) -> Result<object_store::aws::AmazonS3, Cause> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!o.path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // A bucket whose Object Lock has a default retention refuses a put without a checksum;
        // this one is the hash that the request's signature needs anyway.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(client(o))
        .with_http_connector(Answers::new(o)?)
        .with_retry(retry());
    if let Some(region) = &o.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &o.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(id) = &c.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &c.secret_access_key {
        builder = builder.with_secret_access_key(secret);
    }
    if let Some(token) = &c.session_token {
        builder = builder.with_token(token);
    }
    Ok(builder.build()?)
}

fn azure(
    container: &str,
    o: &Options,
    c: &Credentials,
) -> Result<object_store::azure::MicrosoftAzure, Cause> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_client_options(client(o))
        .with_http_connector(Answers::new(o)?)
        .with_retry(retry());
    if let Some(endpoint) = &o.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let Some(account) = &o.account {
        builder = builder.with_account(account);
    }
    if let Some(key) = &c.account_key {
        builder = builder.with_access_key(key);
    }
    Ok(builder.build()?)
}

fn google(
    bucket: &str,
    o: &Options,
    c: &Credentials,
) -> Result<object_store::gcp::GoogleCloudStorage, Cause> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client(o))
        .with_http_connector(Answers::new(o)?)
        .with_retry(retry());
    if let Some(endpoint) = &o.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    match &c.service_account {
        Some(key) => builder = builder.with_service_account_key(key),
        // A server of one's own knows nothing of Google's tokens. (To skip the signature is not
        // enough: object_store asks for a token before each put all the same.)
        None if o.endpoint.is_some() => {
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        }
        None => {}
    }
    Ok(builder.build()?)
}
