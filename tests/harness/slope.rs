//! Whether something that is sampled for a long time goes up: by the line through it that no single peak can turn.

/// What was sampled, and how much of a rise is still none.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// A rise of this over the whole run counts as none: caches fill, pools open.
    pub slack: f64,
    pub samples: Vec<f64>,
}

impl Series {
    pub fn new(name: impl Into<String>, slack: f64) -> Self {
        Self { name: name.into(), slack, samples: Vec::new() }
    }

    /// What is judged: the rest is warm-up.
    fn settled(&self) -> &[f64] {
        &self.samples[self.samples.len() / 3..]
    }

    /// The median, and the rise over the time that is judged: the median of the slopes of all pairs (Theil and Sen), so that
    /// a peak at either end does not tip it.
    pub fn figures(&self) -> (f64, f64) {
        let settled = self.settled();
        let mut slopes = Vec::new();
        for (i, a) in settled.iter().enumerate() {
            for (j, b) in settled.iter().enumerate().skip(i + 1) {
                slopes.push((b - a) / (j - i) as f64);
            }
        }
        (median(settled.to_vec()), median(slopes) * settled.len() as f64)
    }

    /// Says so when it rises: by more than its slack and by more than a twentieth.
    pub fn rises(&self) -> Option<String> {
        let (level, rise) = self.figures();
        (rise > self.slack && rise > level / 20.0)
            .then(|| format!("{} rises by {rise:.0} over the run, from a level of {level:.0}", self.name))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: impl IntoIterator<Item = f64>) -> Series {
        Series { name: "files".to_owned(), slack: 5.0, samples: samples.into_iter().collect() }
    }

    /// From 0 to 99, and back, and again: no two runs of a test differ.
    fn noise(n: u32) -> f64 {
        f64::from((n * 37) % 100)
    }

    #[test]
    fn what_is_flat_does_not_rise_however_it_jumps() {
        assert_eq!(of((0..300).map(|n| 1_000.0 + noise(n))).rises(), None);
        assert_eq!(of((0..300).map(|n| if n % 50 == 49 { 90_000.0 } else { 1_000.0 })).rises(), None);
        assert_eq!(of((0..300).map(|n| if n < 90 { f64::from(n) } else { 90.0 })).rises(), None, "a warm-up");
        assert_eq!(of([]).rises(), None);
    }

    #[test]
    fn a_leak_rises_however_noisy_it_is() {
        let leak = of((0..300).map(|n| 1_000.0 + noise(n) + f64::from(n)));
        assert!(leak.rises().unwrap().starts_with("files rises by"));
        assert!(of((0..300).map(|n| 40.0 + f64::from(n / 20))).rises().is_some(), "a file every now and then");
    }
}
