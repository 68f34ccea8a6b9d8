//! The cache lifetime of a response (RFC 9111).

use std::time::Duration;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AGE, CACHE_CONTROL};

/// The longest cache lifetime: the longest time for which a withdrawn key is still accepted.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Returns how long a response with these headers may be cached. `None` without `Cache-Control`; zero if it cannot be parsed.
pub(super) fn cache_lifetime(headers: &HeaderMap) -> Option<Duration> {
    if !headers.contains_key(CACHE_CONTROL) {
        return None;
    }
    let values = headers.get_all(CACHE_CONTROL).iter().map(|value| value.to_str().unwrap_or("no-store"));
    let directives: Vec<String> =
        values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase()).collect();
    let is_named = |directive: &String, name: &str| directive.split('=').next().map(str::trim) == Some(name);
    if directives.iter().any(|directive| is_named(directive, "no-store") || is_named(directive, "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = |text: &str| text.trim().trim_matches('"').parse::<u64>().ok();
    let max_ages = directives.iter().filter(|directive| is_named(directive, "max-age"));
    // The shortest of several `max-age` is safe.
    let max_age = max_ages.map(|directive| directive.split_once('=').and_then(|(_, text)| seconds(text)).unwrap_or(0)).min();
    let elapsed = headers.get(AGE).map_or(Some(0), |age| age.to_str().ok().and_then(seconds));
    let remaining = max_age.zip(elapsed).map_or(0, |(max_age, elapsed)| max_age.saturating_sub(elapsed));
    Some(Duration::from_secs(remaining).min(MAX_LIFETIME))
}

#[cfg(test)]
mod tests {
    use lambda_http::http::HeaderValue;

    use super::*;

    // Holds: SEC-A9
    #[test]
    fn a_key_set_is_cached_as_long_as_its_owner_allows_and_at_most_an_hour() {
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
            assert_eq!(cache_lifetime(&headers), expected.map(Duration::from_secs), "{cache_control:?} {age:?}");
        }
    }
}
