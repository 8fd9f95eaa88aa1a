//! "Did you mean": the answer to a name nobody knows.

/// How alike two names must be to be worth a guess.
const ALIKE: f64 = 0.75;
/// As much of a caller's own text as an error repeats.
const SHOWN: usize = 64;

/// `unknown channel "emial"; did you mean "email"? Known: email, websocket`.
pub fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    let guess = nearest(given, known).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
    let list = known.join(", ");
    let stop = if guess.is_empty() { "." } else { "" };
    format!("unknown {what} {:?}{guess}{stop} Known: {list}", shown(given))
}

/// The known name most like this one, if any is.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = shown(given).to_ascii_lowercase();
    known
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&given, name).max(prefix_likeness(&given, name)), *name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// `mail` for `email`, `type` for `notification_type`: a part of a name is as good as a slip in it.
fn prefix_likeness(given: &str, name: &str) -> f64 {
    if given.len() >= 4 && (name.ends_with(given) || name.starts_with(given)) { ALIKE } else { 0.0 }
}

fn shown(s: &str) -> String {
    s.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let known = ["email", "websocket", "notification_type"];
        assert_eq!(nearest("emial", &known), Some("email"));
        assert_eq!(nearest("Email", &known), Some("email"));
        assert_eq!(nearest("web-socket", &known), Some("websocket"));
        assert_eq!(nearest("type", &known), Some("notification_type"));
        assert_eq!(nearest("zzz", &known), None);
        assert_eq!(
            unknown("channel", "emial", &["email", "websocket"]),
            "unknown channel \"emial\"; did you mean \"email\"? Known: email, websocket"
        );
        assert_eq!(unknown("channel", "x", &["email"]), "unknown channel \"x\". Known: email");
    }

    #[test]
    fn long_names_are_cut() {
        assert!(unknown("field", &"x".repeat(100_000), &["title"]).len() < 200);
    }
}
