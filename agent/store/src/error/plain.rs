//! What stores and their clients say, for people: without the debug texts around it.

/// Words that tell nobody anything, and what is said instead.
const WORDS: &[(&str, &str)] = &[
    ("HTTP error: ", ""),
    ("error sending request: ", ""),
    ("service error: ", ""),
    ("dispatch failure: io error: ", ""),
    ("client error (Connect): ", "no connection: "),
    ("tcp connect error: ", ""),
    ("dns error: error resolving DNS: ", "no such host: "),
    ("dns error: ", "no such host: "),
    (
        "received corrupt message of type InvalidContentType",
        "what answers there speaks no TLS (InvalidContentType)",
    ),
    ("invalid peer certificate: ", "its certificate is not trusted: "),
    ("Server returned non-2xx status code: ", "status "),
    ("Unable to canonicalize filesystem root: ", ""),
    ("Error after 0 retries in ", "in "),
];

/// The same in plain words.
pub(super) fn plain(text: &str) -> String {
    let mut text = text.replace(['\n', '\r'], " ");
    text = between(&text, "<?xml", "</Error>", answer).unwrap_or(text);
    text = between(&text, "<Error>", "</Error>", answer).unwrap_or(text);
    text = between(&text, "unhandled error (", "): ", |_| Some(String::new())).unwrap_or(text);
    text = between(&text, "Error { code: \"", "}", answer).unwrap_or(text);
    text = between(&text, "Generic ", " error: ", |_| Some(String::new())).unwrap_or(text);
    let lacked = "The operation lacked the necessary privileges to complete for path ";
    text = between(&text, lacked, ": ", |_| Some(String::new())).unwrap_or(text);
    // `Error performing GET URL in 891.2ms, after 4 retries, max_retries: 4, retry_timeout: 60s  - `.
    text = between(&text, "Error performing ", " - ", |inside| {
        let (request, _) = inside.split_once(" in ")?;
        Some(format!("{request}: "))
    })
    .unwrap_or(text);
    for (words, instead) in WORDS {
        text = text.replace(words, instead);
    }
    text = between(&text, " (os error ", ")", |_| Some(String::new())).unwrap_or(text);
    text.trim().to_owned()
}

/// The text with what lies from `begin` to `end` said in another way.
fn between(
    text: &str,
    begin: &str,
    end: &str,
    say: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (inside, after) = rest.split_once(end)?;
    Some(format!("{before}{}{after}", say(inside)?))
}

/// Code and message of an answer, as S3 gives it or as its client prints it.
fn answer(inside: &str) -> Option<String> {
    let cut = |begin: &str, end: &str| {
        let (_, rest) = inside.split_once(begin)?;
        rest.split_once(end).map(|(found, _)| found.to_owned())
    };
    let printed = || Some((inside.split_once('"')?.0.to_owned(), cut("message: \"", "\"")?));
    let (code, message) =
        cut("<Code>", "</Code>").zip(cut("<Message>", "</Message>")).or_else(printed)?;
    Some(format!("{code} ({message})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_debug_texts() {
        let cases = [
            (
                "Error performing GET http://h/b/k in 1.4ms - Server returned non-2xx status code: \
                 403 Forbidden: <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>\
                 SignatureDoesNotMatch</Code><Message>Check your key.</Message><Key>k</Key></Error>",
                "GET http://h/b/k: status 403 Forbidden: SignatureDoesNotMatch (Check your key.)",
            ),
            (
                "Generic S3 error: Error performing GET http://127.0.0.1:1/b/k in 891.2ms, after 4 \
                 retries, max_retries: 4, retry_timeout: 60s  - HTTP error: error sending request: \
                 client error (Connect): tcp connect error: Connection refused (os error 111)",
                "GET http://127.0.0.1:1/b/k: no connection: Connection refused",
            ),
            (
                "service error: unhandled error (NoSuchBucket): Error { code: \"NoSuchBucket\", \
                 message: \"There is none\", aws_request_id: \"18EB\" }",
                "NoSuchBucket (There is none)",
            ),
            (
                "dispatch failure: io error: client error (Connect): dns error: failed to lookup \
                 address information: Name or service not known",
                "no connection: no such host: failed to lookup address information: Name or \
                 service not known",
            ),
            (
                "Generic LocalFileSystem error: Unable to canonicalize filesystem root: /x: No such \
                 file or directory (os error 2)",
                "/x: No such file or directory",
            ),
            ("plain words stay", "plain words stay"),
            ("Error { code: \"half", "Error { code: \"half"),
        ];
        for (said, expected) in cases {
            assert_eq!(plain(said), expected);
        }
    }
}
