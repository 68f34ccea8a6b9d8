//! How long an answer may be kept (RFC 9111).

use std::time::Duration;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AGE, CACHE_CONTROL};

/// No key set is kept longer than this: a key that was withdrawn is out by then.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long an answer with these headers may be kept; `None` if they do not say. What cannot be read is not kept.
pub(super) fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    if !headers.contains_key(CACHE_CONTROL) {
        return None;
    }
    let values = headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap_or("no-store"));
    let directives: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()).collect();
    let named = |directive: &String, name: &str| directive.split('=').next().map(str::trim) == Some(name);
    if directives.iter().any(|directive| named(directive, "no-store") || named(directive, "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = |text: &str| text.trim().trim_matches('"').parse::<u64>().ok();
    let ages = directives.iter().filter(|directive| named(directive, "max-age"));
    // Two that differ are a mistake: the shorter one harms nobody.
    let age = ages.map(|directive| directive.split_once('=').and_then(|(_, text)| seconds(text)).unwrap_or(0)).min();
    let spent = headers.get(AGE).map_or(Some(0), |age| age.to_str().ok().and_then(seconds));
    let left = age.zip(spent).map_or(0, |(age, spent)| age.saturating_sub(spent));
    Some(Duration::from_secs(left).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    // Holds: SEC-A9
    #[test]
    fn a_key_set_is_kept_as_long_as_its_owner_says_and_an_hour_at_most() {
        for (cache_control, age, expected) in [
            (&[][..], None, None),
            (&[], Some("5"), None),
            (&["max-age=60"], None, Some(60)),
            (&["public, Max-Age = \"60\""], None, Some(60)),
            (&["max-age=60"], Some("50"), Some(10)),
            (&["max-age=60"], Some("70"), Some(0)),
            (&["max-age=60"], Some("soon"), Some(0)),
            (&["max-age=86400"], None, Some(3600)),
            (&["max-age=99999999999999999999999"], None, Some(0)),
            (&["max-age=-1"], None, Some(0)),
            (&["max-age"], None, Some(0)),
            (&["max-age=60, max-age=30"], None, Some(30)),
            (&["max-age=60, no-store"], None, Some(0)),
            (&["max-age=60", "no-cache"], None, Some(0)),
            (&["no-cache=\"set-cookie\", max-age=60"], None, Some(0)),
            (&["s-maxage=60"], None, Some(0)),
            (&["must-revalidate"], None, Some(0)),
            (&["\u{e4}"], None, Some(0)),
        ] {
            let mut headers = HeaderMap::new();
            for value in cache_control {
                headers.append(CACHE_CONTROL, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            if let Some(age) = age {
                headers.insert(AGE, HeaderValue::from_static(age));
            }
            assert_eq!(lifetime(&headers), expected.map(Duration::from_secs), "{cache_control:?} {age:?}");
        }
    }
}
