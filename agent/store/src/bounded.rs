//! Answers that are read as a whole, up to a bound: the length that an endpoint tells is not believed.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};

/// The most bytes of an answer that is no object: a page of a listing has 5000 keys at most.
pub(crate) const ANSWER: usize = 32 << 20;

/// An answer that nobody would give who serves a bucket.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {limit} bytes: it was not read, and what answers is no bucket")]
pub(crate) struct Oversized {
    limit: usize,
}

/// Whether an answer tells itself that it is longer than it may be.
fn claims_more(length: Option<&str>, limit: usize) -> bool {
    let length = length.and_then(|length| length.trim().parse::<u128>().ok());
    length.is_some_and(|length| length > limit as u128)
}

/// The body of an answer whose header tells this length.
pub(crate) async fn whole(
    body: HttpResponseBody,
    length: Option<&str>,
) -> Result<Bytes, HttpError> {
    let oversized = || HttpError::new(HttpErrorKind::Decode, Oversized { limit: ANSWER });
    if claims_more(length, ANSWER) {
        return Err(oversized());
    }
    match Limited::new(body, ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(error.downcast::<HttpError>().map_or_else(|_| oversized(), |own| *own)),
    }
}

/// Bounds what the S3 client reads of one answer.
#[derive(Debug)]
pub(crate) struct Bounded(pub(crate) usize);

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let limit = self.0;
        let answer = context.response_mut();
        if claims_more(answer.headers().get("content-length"), limit) {
            return Err(Oversized { limit }.into());
        }
        let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
        let told = move |error: BoxError| match error.is::<LengthLimitError>() {
            true => Oversized { limit }.into(),
            false => error,
        };
        *answer.body_mut() = SdkBody::from_body_1_x(Limited::new(body, limit).map_err(told));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_told_is_compared_whatever_it_is() {
        for (length, more) in [
            (None, false),
            (Some("nonsense"), false),
            (Some("0"), false),
            (Some("10"), false),
            (Some("11"), true),
            (Some("18446744073709551616"), true),
        ] {
            assert_eq!(claims_more(length, 10), more, "{length:?}");
        }
    }

    #[tokio::test]
    async fn what_is_longer_than_it_may_be_is_no_answer() {
        for (length, good) in [(0, true), (ANSWER, true), (ANSWER + 1, false)] {
            let read = whole(vec![b'x'; length].into(), None).await;
            assert_eq!(read.is_ok_and(|read| read.len() == length), good, "{length}");
        }
        assert!(whole(Vec::new().into(), Some("60000000000")).await.is_err());
    }
}
