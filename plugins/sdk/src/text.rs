//! Making text fit what a provider takes.

use std::borrow::Cow;

/// `text` if it fits, else its beginning with an ellipsis; never more than `max` in all.
///
/// Providers count differently, so `size` says what a character costs: `char::len_utf8` for bytes, `char::len_utf16` for
/// UTF-16 units, `|_| 1` for characters, and whatever escaping makes of it.
///
/// ```
/// use campanile_plugin::text::shortened;
/// assert_eq!(shortened("Grüße", 5, |_| 1), "Grüße");
/// assert_eq!(shortened("Grüße an alle", 8, |_| 1), "Grüße a…");
/// assert_eq!(shortened("Grüße an alle", 8, char::len_utf8), "Grü…");
/// ```
pub fn shortened(text: &str, max: usize, size: impl Fn(char) -> usize) -> Cow<'_, str> {
    let room = max.saturating_sub(size('…'));
    let (mut used, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        used += size(c);
        if used <= room {
            end = at + c.len_utf8();
        }
        if used > max {
            let mut short = text[..end].trim_end().to_owned();
            if size('…') <= max {
                short.push('…');
            }
            return Cow::Owned(short);
        }
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn never_more_than_there_is_room_for() {
        let text = "a b ü € 😀 & so on";
        let sizes: [fn(char) -> usize; 3] = [char::len_utf8, char::len_utf16, |c| if c == '&' { 5 } else { 1 }];
        for size in sizes {
            let whole: usize = text.chars().map(size).sum();
            for max in 0..=whole {
                let short = shortened(text, max, size);
                assert!(short.chars().map(size).sum::<usize>() <= max, "{short:?} in {max}");
                assert_eq!(short == text, max == whole, "{short:?} in {max}");
            }
        }
    }
}
