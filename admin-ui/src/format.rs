//! Figures as people read them: grouped, one unit, as many digits as mean something.
//!
//! Absent on purpose: time zones. The server writes UTC into `<time datetime>`; `app.js` shows the viewer's own.

use campanile_model::Timestamp;
use chrono::SecondsFormat;
use std::borrow::Borrow;

/// A figure and its unit apart, for tiles.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figure {
    pub value: String,
    pub unit: &'static str,
}

impl Figure {
    /// No data.
    pub fn none() -> Self {
        Self { value: "–".into(), unit: "" }
    }
    /// As one text.
    pub fn text(&self) -> String {
        if self.unit.is_empty() { self.value.clone() } else { format!("{} {}", self.value, self.unit) }
    }
}

/// `12,847`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `about 1.2 million`: where the exact number costs more than it tells.
pub fn about(n: u64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..1_000_000 => format!("about {},000", n / 1_000),
        _ => format!("about {:.1} million", n as f64 / 1e6),
    }
}

/// Per second: `338.2`, `0.4`, `0`.
pub fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        return "0".into();
    }
    if per_second >= 10_000.0 {
        return count(per_second.round() as u64);
    }
    let tenths = (per_second * 10.0).round() as u64;
    match tenths {
        // Something happened; it is not nothing.
        0 => format!("{per_second:.2}"),
        t => format!("{}.{}", count(t / 10), t % 10),
    }
}

/// A share of 0–1 in percent: one decimal above 90, `100` only when nothing failed.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if share >= 1.0 {
        "100".into()
    } else if p > 90.0 {
        format!("{:.1}", (p * 10.0).floor() / 10.0)
    } else {
        format!("{p:.0}")
    }
}

/// `412 ms`, `2.6 s`, `41 s`, `38 min`, `3 h`, `12 d`.
pub fn duration(ms: f64) -> Figure {
    let (value, unit) = match ms {
        m if m < 0.5 => ("0".to_owned(), "ms"),
        m if m < 1_000.0 => (format!("{m:.0}"), "ms"),
        m if m < 10_000.0 => (format!("{:.1}", m / 1e3), "s"),
        m if m < 120_000.0 => (format!("{:.0}", m / 1e3), "s"),
        m if m < 7_200_000.0 => (format!("{:.0}", m / 60e3), "min"),
        m if m < 172_800_000.0 => (format!("{:.0}", m / 3.6e6), "h"),
        m => (format!("{:.0}", m / 86.4e6), "d"),
    };
    Figure { value, unit }
}

/// `duration` as one text, for what may be absent.
pub fn duration_or_dash(ms: Option<i64>) -> String {
    ms.map_or_else(|| "–".into(), |ms| duration(ms.max(0) as f64).text())
}

/// `12 d 4 h`, `3 h 5 min`, `42 s`: how long something runs.
pub fn uptime(seconds: u64) -> String {
    let (d, h, m) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// `214 MB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_024 => format!("{n} B"),
        1_024..1_048_576 => format!("{} kB", n / 1_024),
        1_048_576..1_073_741_824 => format!("{} MB", n / 1_048_576),
        _ => format!("{:.1} GB", n as f64 / 1_073_741_824.0),
    }
}

/// For `datetime`: RFC 3339 in UTC.
pub fn machine(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `14:22:08` UTC, what a page without scripts shows.
pub fn clock(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.format("%H:%M:%S").to_string()
}

/// `14:07` UTC.
pub fn minute(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.format("%H:%M").to_string()
}

/// `23 Nov 14:07:09` UTC.
pub fn day_clock(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.format("%-d %b %H:%M:%S").to_string()
}

/// `14:07:09.412` UTC.
pub fn precise(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.format("%H:%M:%S%.3f").to_string()
}

/// `23 Nov` UTC.
pub fn day(at: impl Borrow<Timestamp>) -> String {
    let at = at.borrow();
    at.format("%-d %b").to_string()
}

/// `451_4.3.2: mailbox busy`: a far side's code and its words, which often begin with that code again.
pub fn coded(code: Option<&str>, said: Option<&str>) -> Option<String> {
    let Some((code, said)) = code.zip(said) else { return code.or(said).map(str::to_owned) };
    let rest = said_beside(code, said);
    Some(if rest.is_empty() { code.to_owned() } else { format!("{code}: {rest}") })
}

/// The same of one text, whose code stands before a colon: `451_4.3.2: 451 busy`.
pub fn coded_once(text: &str) -> String {
    let parts = text.split_once(": ").filter(|(code, _)| !code.contains(' '));
    parts.and_then(|(code, said)| coded(Some(code), Some(said))).unwrap_or_else(|| text.to_owned())
}

/// The words without the code that they begin with, for where it stands beside them.
pub fn said_beside<'a>(code: &str, said: &'a str) -> &'a str {
    let mut rest = said;
    for word in std::iter::once(code).chain(code.split('_')) {
        let after = rest.strip_prefix(word).filter(|after| after.is_empty() || after.starts_with([':', ' ', '-']));
        rest = after.map_or(rest, |after| after.trim_start_matches([':', ' ', '-']));
    }
    rest
}

/// `m•••@northwind.example`, `+49 ••• 218`: enough to recognise, too little to use.
pub fn masked(address: &str) -> String {
    if let Some((local, domain)) = address.split_once('@') {
        let first: String = local.chars().take(1).collect();
        return format!("{first}•••@{domain}");
    }
    let chars: Vec<char> = address.chars().collect();
    if chars.len() <= 5 {
        return "•••".into();
    }
    let (head, tail): (String, String) = (chars[..3].iter().collect(), chars[chars.len() - 2..].iter().collect());
    format!("{head}•••{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_847, "12,847"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!(about(1_234_567), "about 1.2 million");
        assert_eq!(about(34_567), "about 34,000");
    }

    #[test]
    fn rates_never_round_something_to_nothing() {
        for (r, text) in [(0.0, "0"), (0.02, "0.02"), (0.44, "0.4"), (338.24, "338.2"), (12_345.6, "12,346")] {
            assert_eq!(rate(r), text);
        }
    }

    #[test]
    fn a_hundred_percent_means_that_nothing_failed() {
        for (share, text) in [(1.0, "100"), (0.999_9, "99.9"), (0.938, "93.8"), (0.5, "50"), (0.0, "0")] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn durations_have_one_unit() {
        for (ms, text) in [
            (0.0, "0 ms"),
            (412.0, "412 ms"),
            (2_600.0, "2.6 s"),
            (41_000.0, "41 s"),
            (2_280_000.0, "38 min"),
            (10_800_000.0, "3 h"),
            (1_036_800_000.0, "12 d"),
        ] {
            assert_eq!(duration(ms).text(), text);
        }
        assert_eq!(uptime(1_052_000), "12 d 4 h");
    }

    #[test]
    fn a_code_is_said_once() {
        for (code, said, text) in [
            ("451_4.3.2", "451 4.3.2 busy", "451_4.3.2: busy"),
            ("451_4.3.2", "451 busy", "451_4.3.2: busy"),
            ("503", "503: Service Unavailable", "503: Service Unavailable"),
            ("503", "503", "503"),
            ("timeout", "no answer in 5 s", "timeout: no answer in 5 s"),
            ("451", "4511 is no code", "451: 4511 is no code"),
        ] {
            assert_eq!(coded(Some(code), Some(said)).as_deref(), Some(text));
        }
        assert_eq!(coded_once("451_4.3.2: 451 busy"), "451_4.3.2: busy");
        assert_eq!(coded_once("a line: 451"), "a line: 451");
        assert_eq!(coded(None, Some("no")).as_deref(), Some("no"));
        assert_eq!(coded(None, None), None);
    }

    #[test]
    fn addresses_are_recognised_and_not_given_away() {
        assert_eq!(masked("mia@northwind.example"), "m•••@northwind.example");
        assert_eq!(masked("+4915123456218"), "+49•••18");
        assert_eq!(masked("abc"), "•••");
        assert_eq!(masked("ñ@x"), "ñ•••@x");
    }
}
