//! Verifies Signature Version 4 of requests, by the algorithm that AWS publishes ("Create a signed AWS API request"). It shares no code with
//! the signer.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use headrace_core::vocab::clock::Millis;
use headrace_fhir::instant::Instant;
use percent_encoding::percent_decode_str;

/// The largest difference between the time of a request and the server's clock.
const MAX_AGE_MILLIS: u64 = 300_000;

/// The credentials and the scope that signatures must have.
#[derive(Clone, Debug)]
pub struct RequiredSignature {
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
    /// The region.
    pub region: String,
    /// The service.
    pub service: String,
}

/// A request as it was received, without a body.
#[derive(Clone, Debug)]
pub struct ReceivedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and query.
    pub target: &'a str,
    /// The header fields, with names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl<'a> ReceivedRequest<'a> {
    /// Parses the head of a request.
    pub fn parse(head: &'a str) -> Self {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Self { method, target, headers }
    }

    /// Returns a header field. It is empty without one.
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl RequiredSignature {
    /// Returns an error that says what is wrong with the signature of a request.
    pub fn verify(&self, request: &ReceivedRequest<'_>, now: Millis) -> Result<(), String> {
        let authorization = request.header("authorization");
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("no signature")?;
        let fields: BTreeMap<&str, &str> = fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().ok_or_else(|| format!("no {name}"));
        let time = request.header("x-amz-date");
        let date = time.get(..8).ok_or("no x-amz-date")?;
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        if field("Credential")? != format!("{}/{scope}", self.access_key) {
            return Err(format!("the scope is {}", field("Credential")?));
        }
        let signed: Vec<&str> = field("SignedHeaders")?.split(';').collect();
        let mut required = vec!["host", "x-amz-date"];
        if let Some(token) = &self.session_token {
            required.push("x-amz-security-token");
            if request.header("x-amz-security-token") != token {
                return Err("another session token".to_owned());
            }
        }
        if let Some(missing) = required.iter().find(|name| !signed.contains(name)) {
            return Err(format!("{missing} is not signed"));
        }
        let at = parse_time(time).ok_or("x-amz-date is no time")?;
        if at.0.abs_diff(now.0) > MAX_AGE_MILLIS {
            return Err(format!("it is {now}, and the request is of {at}"));
        }
        if field("Signature")? == self.signature(request, &signed, time, &scope) { Ok(()) } else { Err("a wrong signature".to_owned()) }
    }

    /// Computes the signature of a request.
    fn signature(&self, request: &ReceivedRequest<'_>, signed: &[&str], time: &str, scope: &str) -> String {
        let canonical = canonical_request(request, signed);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in scope.split('/') {
            key = hmac(&key, part);
        }
        hex(&hmac(&key, &to_sign))
    }
}

/// Returns the canonical form of a request without a body.
fn canonical_request(request: &ReceivedRequest<'_>, signed: &[&str]) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    // Each segment of the path, as it was sent, is encoded once more (for services other than S3).
    let path = path.split('/').map(|segment| uri_encode(segment.as_bytes())).collect::<Vec<_>>().join("/");
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| {
            let encode = |text: &str| uri_encode(&percent_decode_str(text).collect::<Vec<u8>>());
            (encode(name), encode(value))
        })
        .collect();
    pairs.sort();
    let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let headers: String = signed.iter().map(|name| format!("{name}:{}\n", request.header(name))).collect();
    let body = hex(digest(&SHA256, b"").as_ref());
    format!("{}\n{path}\n{query}\n{headers}\n{}\n{body}", request.method, signed.join(";"))
}

/// Encodes all bytes but the unreserved ones.
fn uri_encode(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

/// Parses a time such as `20150830T123600Z`.
fn parse_time(text: &str) -> Option<Millis> {
    let part = |range: std::ops::Range<usize>| text.get(range);
    let (date, time) = ((part(0..4)?, part(4..6)?, part(6..8)?), (part(9..11)?, part(11..13)?, part(13..15)?));
    let instant = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2);
    Millis::from_instant(Instant::parse(&instant).ok()?)
}

/// Computes an HMAC with SHA-256.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// Formats bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the AWS General Reference, "Signature Version 4 signing process".
    const EXAMPLE: &str = "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1\r\nHost: iam.amazonaws.com\r\nContent-Type: application/x-www-form-urlencoded; charset=utf-8\r\nX-Amz-Date: 20150830T123600Z\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7\r\n\r\n";

    #[test]
    fn the_published_example_is_accepted_and_any_change_is_not() {
        let required = RequiredSignature {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            region: "us-east-1".to_owned(),
            service: "iam".to_owned(),
        };
        let now = parse_time("20150830T123700Z").unwrap();
        assert_eq!(required.verify(&ReceivedRequest::parse(EXAMPLE), now), Ok(()));
        for (from, to) in [
            ("ListUsers", "ListRoles"),
            ("GET", "PUT"),
            ("Host: iam", "Host: sts"),
            ("us-east-1", "us-east-2"),
            ("f2b5d7", "f2b5d8"),
            ("X-Amz-Date: 20150830T123600Z", "X-Amz-Date: 20150830T123601Z"),
            ("content-type;host;x-amz-date", "content-type;x-amz-date"),
        ] {
            let changed = EXAMPLE.replacen(from, to, 1);
            assert!(required.verify(&ReceivedRequest::parse(&changed), now).is_err(), "{from}");
        }
        assert!(required.verify(&ReceivedRequest::parse(EXAMPLE), parse_time("20150830T130000Z").unwrap()).is_err());
    }
}
