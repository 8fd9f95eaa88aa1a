//! Making what a plugin says fit to be shown, stored and counted. It is trusted in nothing.

use campanile_plugin::wire::Outcome;
use std::{fmt::Write, time::Duration};

/// Nobody waits longer on a plugin's word; the retry policy says less.
const AFTER_MAX: Duration = Duration::from_hours(24);

/// Lengths are the wire's ([`Outcome::read`]); this is for what lies within them.
pub(crate) fn outcome(mut o: Outcome) -> Outcome {
    o.code = o.code.chars().map(word).collect();
    o.message = line(&o.message);
    o.provider_id = o.provider_id.map(|id| line(&id));
    o.retry_after = o.retry_after.map(|after| after.min(AFTER_MAX));
    o
}

fn word(c: char) -> char {
    match c {
        'a'..='z' | '0'..='9' | '_' | '.' | '-' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        _ => '_',
    }
}

/// Control characters written out: one line stays one line, and no terminal obeys it.
pub(crate) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push(' '),
            // Marks that turn the direction of writing hide what a line says.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
            {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_plugin::wire::Status;

    #[test]
    fn nothing_in_an_outcome_obeys_or_breaks_out() {
        let mut wild = Outcome::new(Status::Retry, "Bad Code!\u{e9}", "a\r\nSet-Cookie: x\u{1b}[2J\u{202e}");
        wild.provider_id = Some("1\n2".to_owned());
        wild.retry_after = Some(Duration::from_hours(10 * 365 * 24));
        let tame = outcome(wild);
        assert_eq!(tame.code, "bad_code__");
        assert_eq!(tame.message, "a\\r\\nSet-Cookie: x\\u{1b}[2J\\u{202e}");
        assert_eq!((tame.provider_id.as_deref(), tame.retry_after), (Some("1\\n2"), Some(AFTER_MAX)));
    }
}
