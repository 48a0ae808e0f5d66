//! Temporary credentials of MinIO, which may do what a policy allows and nothing else.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::http::Request;
use super::minio::{Minio, REGION};

/// What a host needs that backs up and restores.
pub const WRITES: [&str; 8] = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:PutObject",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketLocation",
];

/// Temporary credentials.
#[derive(Debug, Clone)]
pub struct Temporary {
    /// The access key's id.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// The session token.
    pub token: String,
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Asks a server for credentials with these actions on all of its buckets, such as `s3:GetObject`.
///
/// # Panics
/// When it refuses.
pub fn assume(minio: &Minio, actions: &[&str]) -> Temporary {
    let actions: Vec<String> = actions.iter().map(|action| format!("\"{action}\"")).collect();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":[{}],"Resource":["arn:aws:s3:::*"]}}]}}"#,
        actions.join(",")
    );
    let body = format!(
        "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={}",
        encoded(&policy)
    );
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = authorization(minio, &date, &body);
    let headers =
        [("Content-Type", FORM), ("X-Amz-Date", &date), ("Authorization", &authorization)];
    let request = Request {
        port: minio.port(),
        method: "POST",
        target: "/",
        headers: &headers,
        body: body.as_bytes(),
    };
    let answer = request.send().expect("an answer").expect("assume a role");
    let answer = String::from_utf8(answer).expect("XML");
    let of = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).expect(name);
        rest.split_once('<').expect(name).0.to_owned()
    };
    Temporary {
        access_key: of("AccessKeyId"),
        secret_key: of("SecretAccessKey"),
        token: of("SessionToken"),
    }
}

/// The header that signs a request with the server's root account: AWS Signature Version 4.
fn authorization(minio: &Minio, date: &str, body: &str) -> String {
    const SIGNED: &str = "content-type;host;x-amz-date";
    let scope = format!("{}/{REGION}/sts/aws4_request", &date[..8]);
    let canonical = format!(
        "POST\n/\n\ncontent-type:{FORM}\nhost:127.0.0.1:{}\nx-amz-date:{date}\n\n{SIGNED}\n{}",
        minio.port(),
        hex(&Sha256::digest(body))
    );
    let hash = hex(&Sha256::digest(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
    let mut key = format!("AWS4{}", minio.secret_key()).into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    let id = minio.access_key();
    let signature = hex(&mac(&key, &to_sign));
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
    )
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is good");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// As a form holds it.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
