//! Dates of HTTP: `Sun, 06 Nov 1994 08:49:37 GMT`, in seconds since 1970. The two obsolete forms are not read.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[expect(
    clippy::disallowed_methods,
    reason = "channels have no clock of the host; this one only reads a date of the far side"
)]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}

pub fn parse(text: &str) -> Option<u64> {
    let (_, rest) = text.trim().split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year): (u64, _, u64) = (number(parts.next()?)?, parts.next()?, number(parts.next()?)?);
    let month = MONTHS.iter().position(|m| *m == month)? as u64 + 1;
    let mut clock = parts.next()?.split(':').map(number);
    let (h, m, s) = (clock.next()??, clock.next()??, clock.next()??);
    let whole = clock.next().is_none() && parts.next() == Some("GMT") && parts.next().is_none();
    if !whole || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) || h > 23 || m > 59 || s > 60 {
        return None;
    }
    // Years that begin in March put the leap day at the end (Howard Hinnant's days_from_civil).
    let (y, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719_468;
    Some(days * 86_400 + h * 3600 + m * 60 + s)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
