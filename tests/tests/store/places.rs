//! How the tests open their servers: as the agent does, through [`Location`].

use std::time::Duration;

use drctl_store::{Bucket, Credentials, Location, Options};
use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::minio::{Minio, REGION};

/// How a location is reached, and as whom.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) options: Options,
    pub(crate) credentials: Credentials,
}

impl Default for Place {
    fn default() -> Self {
        let options = Options {
            endpoint: None,
            region: Some(REGION.to_owned()),
            path_style: true,
            allow_http: true,
            account: None,
            ca_pem: None,
            request_timeout: Duration::from_secs(30),
        };
        Place { options, credentials: Credentials::default() }
    }
}

pub(crate) fn open(location: &Location, place: &Place) -> Bucket {
    location.open("test://here", &place.options, &place.credentials).expect("open the location")
}

/// A server that speaks S3 on this port of 127.0.0.1.
pub(crate) fn s3_place(port: u16, access_key: &str, secret_key: &str) -> Place {
    let mut place = Place::default();
    place.options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    place.credentials.access_key_id = Some(access_key.to_owned());
    place.credentials.secret_access_key = Some(secret_key.to_owned());
    place
}

pub(crate) fn s3_location(bucket: &str, prefix: &str) -> Location {
    Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
}

pub(crate) fn s3(minio: &Minio, bucket: &str, prefix: &str) -> Bucket {
    let place = s3_place(minio.port(), minio.access_key(), minio.secret_key());
    open(&s3_location(bucket, prefix), &place)
}

pub(crate) fn azure(azurite: &Azurite, container: &str, prefix: &str) -> Bucket {
    azure_with_key(azurite, azurite.key(), container, prefix)
}

pub(crate) fn azure_with_key(
    azurite: &Azurite,
    key: &str,
    container: &str,
    prefix: &str,
) -> Bucket {
    let mut place = Place::default();
    place.options.endpoint = Some(azurite.endpoint());
    place.options.account = Some(azurite.account().to_owned());
    place.credentials.account_key = Some(key.to_owned());
    let location = Location::Azure { container: container.to_owned(), prefix: prefix.to_owned() };
    open(&location, &place)
}

/// Google's storage, spoken by a server at this port of 127.0.0.1.
pub(crate) fn google(port: u16, bucket: &str, prefix: &str) -> Bucket {
    let mut place = Place::default();
    place.options.endpoint = Some(format!("http://127.0.0.1:{port}"));
    let location = Location::Google { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    open(&location, &place)
}
