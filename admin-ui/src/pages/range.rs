//! The stretch of time that a page's plots show; part of its URL.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Range {
    Minutes15,
    #[default]
    Hour1,
    Hours6,
    Day1,
    Days7,
}

impl Range {
    pub const ALL: [Self; 5] = [Self::Minutes15, Self::Hour1, Self::Hours6, Self::Day1, Self::Days7];

    /// `?range=`; anything else is the default, since a mistyped link should still show something.
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|r| r.as_str() == text).unwrap_or_default()
    }
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minutes15 => "15m",
            Self::Hour1 => "1h",
            Self::Hours6 => "6h",
            Self::Day1 => "24h",
            Self::Days7 => "7d",
        }
    }
    pub const fn label(self) -> &'static str {
        match self {
            Self::Minutes15 => "15 m",
            Self::Hour1 => "1 h",
            Self::Hours6 => "6 h",
            Self::Day1 => "24 h",
            Self::Days7 => "7 d",
        }
    }
    /// `last hour`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Minutes15 => "last 15 minutes",
            Self::Hour1 => "last hour",
            Self::Hours6 => "last 6 hours",
            Self::Day1 => "last 24 hours",
            Self::Days7 => "last 7 days",
        }
    }
    /// (seconds of one bucket, buckets): at most 180 points a plot.
    pub const fn buckets(self) -> (u32, usize) {
        match self {
            Self::Minutes15 => (10, 90),
            Self::Hour1 => (20, 180),
            Self::Hours6 => (120, 180),
            Self::Day1 => (480, 180),
            Self::Days7 => (3_600, 168),
        }
    }
    /// `20 s`.
    pub const fn bucket_label(self) -> &'static str {
        match self {
            Self::Minutes15 => "10 s",
            Self::Hour1 => "20 s",
            Self::Hours6 => "2 min",
            Self::Day1 => "8 min",
            Self::Days7 => "1 h",
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_back_and_a_strange_one_is_an_hour() {
        for r in Range::ALL {
            assert_eq!(Range::parse(r.as_str()), r);
        }
        assert_eq!(Range::parse("a fortnight"), Range::Hour1);
    }
}
