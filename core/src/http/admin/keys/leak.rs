//! Whether a key is used as one is that got into other hands. A hint for people: nothing is blocked by it.

use campanile_admin_ui::format;
use campanile_model::ports::KeyCalls;

/// An application runs in few places; a key that stands in a public repository is tried from many.
const ADDRESSES: u64 = 10;
/// Answers of 401 and 403 within an hour: somebody tries what it opens, or from where.
const BURST: u64 = 20;

/// What looks wrong about a day of it, in words.
pub fn looks(day: &KeyCalls, works: bool) -> Option<String> {
    if day.denied_peak >= BURST {
        let n = format::count(day.denied_peak);
        return Some(if works {
            format!("{n} answers of 401 or 403 within an hour")
        } else {
            format!("still tried: {n} times within an hour")
        });
    }
    (day.addresses >= ADDRESSES).then(|| format!("used from {} addresses in 24 h", format::count(day.addresses)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::KeyId;

    fn day(addresses: u64, denied: u64, denied_peak: u64) -> KeyCalls {
        KeyCalls { key: KeyId::new(), calls: 10_000, refused: denied, denied, denied_peak, addresses }
    }

    #[test]
    fn many_places_or_a_burst_of_refusals_are_odd() {
        assert_eq!(looks(&day(3, 0, 0), true), None, "many calls from few places are an application");
        assert_eq!(looks(&day(9, 300, 19), true), None, "a few each hour are a slip that is made again");
        assert_eq!(looks(&day(10, 0, 0), true).unwrap(), "used from 10 addresses in 24 h");
        assert_eq!(looks(&day(1, 20, 20), true).unwrap(), "20 answers of 401 or 403 within an hour");
        assert_eq!(looks(&day(40, 1_200, 1_200), false).unwrap(), "still tried: 1,200 times within an hour");
        assert_eq!(looks(&day(0, 0, 0), false), None);
    }
}
