//! What a text costs: networks carry messages in segments, and providers bill each.
//!
//! The old alphabet (GSM 03.38) fits 160 characters into one segment and 153 into each of several; a few characters count
//! twice. One character outside of it, and the whole text goes as UTF-16: 70 and 67 units.

use std::borrow::Cow;

const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Written with an escape before them.
const TWICE: &str = "^{}\\[~]|€\u{c}";

fn gsm(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        return Some(1);
    }
    TWICE.contains(c).then_some(2)
}

/// (units of the text, units of a lone segment, units of each of several)
fn measured(text: &str) -> (usize, usize, usize) {
    match text.chars().map(gsm).sum::<Option<usize>>() {
        Some(units) => (units, 160, 153),
        None => (text.chars().map(char::len_utf16).sum(), 70, 67),
    }
}

/// How many segments a text takes.
pub fn segments(text: &str) -> usize {
    let (units, lone, each) = measured(text);
    if units <= lone { 1 } else { units.div_ceil(each) }
}

/// As much of the text as fits into so many segments. What is cut ends with three dots: an ellipsis would cost half of the
/// room, as the old alphabet has none.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if segments(text) <= most {
        return Cow::Borrowed(text);
    }
    let old = text.chars().all(|c| gsm(c).is_some());
    let (lone, each) = if old { (160, 153) } else { (70, 67) };
    let room = if most == 1 { lone } else { most * each } - 3;
    let mut used = 0;
    let fits = text.chars().take_while(|c| {
        used += if old { gsm(*c).unwrap_or(1) } else { c.len_utf16() };
        used <= room
    });
    let short: String = fits.collect();
    Cow::Owned(format!("{}...", short.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_networks_do() {
        let of = |unit: &str, n| segments(&unit.repeat(n));
        assert_eq!([of("a", 0), of("a", 160), of("a", 161), of("a", 306), of("a", 307)], [1, 1, 2, 2, 3]);
        assert_eq!([of("€", 80), of("€", 81)], [1, 2]);
        assert_eq!([of("ж", 70), of("ж", 71), of("ж", 134), of("ж", 135)], [1, 2, 2, 3]);
        assert_eq!([of("😀", 35), of("😀", 36)], [1, 2]);
    }

    #[test]
    fn cuts_to_what_was_agreed() {
        for unit in ["a", "€", "ж", "😀", "ab ж", "x€"] {
            let text = unit.repeat(2000);
            for most in 1..=10 {
                let short = cut(&text, most);
                assert_eq!(segments(&short), most, "{unit} {most}");
                assert!(short.ends_with("..."));
            }
        }
        assert_eq!(cut("short", 1), "short");
    }
}
