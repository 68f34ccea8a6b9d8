//! `Retry-After`: seconds or a date (RFC 9110, section 10.2.3), and Microsoft's header field with milliseconds.

use std::time::{Duration, UNIX_EPOCH};

use headrace_core::vocab::clock::Millis;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The least time between two requests, also if the server says 0 or a time that has passed.
const MIN_DELAY: Duration = Duration::from_millis(200);

/// The longest time to wait: 136 years, beyond the patience of any client.
const MAX_DELAY: Duration = Duration::from_secs(4_294_967_295);

/// The pause in milliseconds, in responses of Microsoft's servers.
const RETRY_AFTER_MS: &str = "x-ms-retry-after-ms";

/// Returns the time to wait that a response demands. A date is compared with the server's own `Date`, so that clocks may differ.
/// `None` without a header field, or if it is neither a number nor a date.
pub fn retry_after(headers: &HeaderMap, now: Millis) -> Option<Duration> {
    let millis = headers.get(RETRY_AFTER_MS).and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_millis);
    millis.or_else(|| seconds_or_date(headers, now)).map(|delay| delay.clamp(MIN_DELAY, MAX_DELAY))
}

/// Returns the delay of `Retry-After`.
fn seconds_or_date(headers: &HeaderMap, now: Millis) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for its type is a time that no client reaches.
        return Some(text.parse().map_or(MAX_DELAY, Duration::from_secs));
    }
    let server_time = headers.get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
    Some(parse_date(text)?.since(server_time.unwrap_or(now)))
}

/// Parses a date in any of the three formats of HTTP.
pub fn parse_date(text: &str) -> Option<Millis> {
    let since_1970 = httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since_1970.as_millis()).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the delay of a response with these header fields, in milliseconds, at 2026-01-31T08:00:00Z.
    fn delay(retry_after_text: &str, date: Option<&str>) -> Option<u128> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_text.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, Millis(1_769_846_400_000)).map(|delay| delay.as_millis())
    }

    #[test]
    fn seconds_and_all_three_formats_of_dates_are_read() {
        for (text, expected) in [
            ("7", Some(7_000)),
            ("7200", Some(7_200_000)),
            ("0", Some(200)),
            (" 3 ", Some(3_000)),
            ("99999999999999999999999", Some(u128::from(u32::MAX) * 1000)),
            ("Sat, 31 Jan 2026 08:02:00 GMT", Some(120_000)),
            ("Saturday, 31-Jan-26 08:02:00 GMT", Some(120_000)),
            ("Sat Jan 31 08:02:00 2026", Some(120_000)),
            ("Sat, 31 Jan 2026 07:00:00 GMT", Some(200)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(delay(text, None), expected, "{text}");
        }
    }

    #[test]
    fn milliseconds_are_read_and_are_more_exact_than_seconds() {
        let longest = u128::from(u32::MAX) * 1_000;
        for (millis, expected) in [("1500", 1_500), ("0", 200), ("soon", 2_000), ("18446744073709551615", longest)] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER_MS, millis.parse().unwrap());
            headers.insert(RETRY_AFTER, "2".parse().unwrap());
            assert_eq!(retry_after(&headers, Millis(0)).map(|delay| delay.as_millis()), Some(expected), "{millis}");
        }
    }

    #[test]
    fn a_date_is_measured_from_the_servers_own_clock() {
        assert_eq!(delay("Thu, 01 Jan 2037 00:01:00 GMT", Some("Thu, 01 Jan 2037 00:00:00 GMT")), Some(60_000));
    }
}
