//! Plots as SVG paths, drawn on the server: fluid without knowing the width, themed by CSS, the same with scripts off.
//!
//! A plot's x axis is the index of its bucket; its y axis runs from 0 (top) to `HEIGHT`. Gaps (no data) break a line.
//! Absent on purpose: axis text, which is HTML beside the picture, and colours, which are classes.

use std::fmt::Write as _;

/// Units of height in every view box.
pub const HEIGHT: f64 = 100.0;

/// A scale with round steps that holds `max`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scale {
    /// What the bottom of the plot stands for: 0, but for shares, of which only the upper end is of interest.
    pub base: f64,
    pub top: f64,
    pub steps: usize,
}

impl Scale {
    /// Three to five steps of 1, 2, 2.5, 4 or 5 times a power of ten. Counts never get a step below one.
    pub fn of(max: f64, whole: bool) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let mut power = 10f64.powi((max / 5.0).log10().floor() as i32);
        loop {
            for nice in [1.0, 2.0, 2.5, 4.0, 5.0] {
                let step = nice * power;
                if whole && (step < 1.0 || step.fract() != 0.0) {
                    continue;
                }
                let steps = (max / step).ceil().max(1.0);
                if steps <= 5.0 {
                    return Self { base: 0.0, top: step * steps, steps: steps as usize };
                }
            }
            power *= 10.0;
        }
    }

    /// Of counts, for a low plot: two steps, or one where a step would be less than one.
    pub fn low(max: f64) -> Self {
        let halves = Self::halves(max);
        if halves.top < 2.0 { Self { base: 0.0, top: 1.0, steps: 1 } } else { halves }
    }

    /// Two steps, for a low plot.
    pub fn halves(max: f64) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let mut power = 10f64.powi((max / 2.0).log10().floor() as i32);
        loop {
            for nice in [1.0, 2.0, 3.0, 5.0, 6.0] {
                if nice * power * 2.0 >= max {
                    return Self { base: 0.0, top: nice * power * 2.0, steps: 2 };
                }
            }
            power *= 10.0;
        }
    }

    /// Of shares in percent: from the highest of 90, 50 and 0 that lies under all of them, up to 100.
    pub fn percent(least: f64) -> Self {
        let base = [90.0, 50.0].into_iter().find(|base| least >= *base).unwrap_or(0.0);
        Self { base, top: 100.0, steps: 2 }
    }

    /// Labels from the top down to the base.
    pub fn labels(&self) -> Vec<String> {
        (0..=self.steps)
            .rev()
            .map(|i| {
                let v = self.base + (self.top - self.base) * i as f64 / self.steps as f64;
                if v >= 1_000.0 || v.fract().abs() < 1e-9 {
                    crate::format::count(v.round() as u64)
                } else {
                    let text = format!("{v:.2}");
                    text.trim_end_matches('0').to_owned()
                }
            })
            .collect()
    }

    /// Horizontal rules, without the one at 0.
    pub fn grid(&self, width: usize) -> String {
        let mut d = String::new();
        for i in 0..self.steps {
            let _ = write!(d, "M0 {}H{width}", short(HEIGHT * i as f64 / self.steps as f64));
        }
        d
    }

    fn y(&self, v: f64) -> f64 {
        HEIGHT - ((v - self.base) / (self.top - self.base)).clamp(0.0, 1.0) * HEIGHT
    }
}

/// One decimal at most, none when it says nothing.
fn short(v: f64) -> String {
    short_of(v, 10.0)
}

/// As many digits after the point as `unit` has noughts, and none that says nothing.
fn short_of(v: f64, unit: f64) -> String {
    ((v * unit).round() / unit + 0.0).to_string()
}

/// Runs of indexes that have a value.
fn runs(points: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut runs: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut open = false;
    for (i, p) in points.iter().enumerate() {
        match (p, open) {
            (Some(v), true) => {
                if let Some(run) = runs.last_mut() {
                    run.1.push(*v);
                }
            }
            (Some(v), false) => {
                runs.push((i, vec![*v]));
                open = true;
            }
            (None, _) => open = false,
        }
    }
    runs
}

/// `d` of the line through the points.
pub fn line(points: &[Option<f64>], scale: &Scale) -> String {
    let mut d = String::new();
    for (start, values) in runs(points) {
        for (i, v) in values.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{command}{} {}", start + i, short(scale.y(*v)));
        }
        if values.len() == 1 {
            d.push_str("h0");
        }
    }
    d
}

/// `d` of a dot at each point that stands alone, with no line to its neighbours: else it would not be seen.
pub fn lone(points: &[Option<f64>], scale: &Scale) -> String {
    let mut d = String::new();
    for (i, values) in runs(points).into_iter().filter(|(_, v)| v.len() == 1) {
        let _ = write!(d, "M{i} {}h0", short(scale.y(values[0])));
    }
    d
}

/// `d` of a level across the whole plot; empty where it lies off it.
pub fn level(v: f64, scale: &Scale, width: usize) -> String {
    if (scale.base..=scale.top).contains(&v) { format!("M0 {}H{width}", short(scale.y(v))) } else { String::new() }
}

/// `d` of the area under it.
pub fn area(points: &[Option<f64>], scale: &Scale) -> String {
    let mut d = String::new();
    for (start, values) in runs(points).into_iter().filter(|(_, v)| v.len() > 1) {
        let _ = write!(d, "M{start} {}", short(HEIGHT));
        for (i, v) in values.iter().enumerate() {
            let _ = write!(d, "L{} {}", start + i, short(scale.y(*v)));
        }
        let _ = write!(d, "L{} {}Z", start + values.len() - 1, short(HEIGHT));
    }
    d
}

/// `d` of a band between two stacked values (`low` below `high`), bucket by bucket.
pub fn band(low: &[f64], high: &[f64], scale: &Scale) -> String {
    let mut d = String::new();
    for (i, v) in high.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{i} {}", short(scale.y(*v)));
    }
    for (i, v) in low.iter().enumerate().rev() {
        let _ = write!(d, "L{i} {}", short(scale.y(*v)));
    }
    if !d.is_empty() {
        d.push('Z');
    }
    d
}

/// `d` of bars of one bucket each, standing on `base`.
pub fn bars(base: &[f64], values: &[f64], scale: &Scale) -> String {
    let mut d = String::new();
    for (i, v) in values.iter().enumerate().filter(|(_, v)| **v > 0.0) {
        let from = base.get(i).copied().unwrap_or(0.0);
        let (bottom, top) = (scale.y(from), scale.y(from + v));
        // A bar that is there is seen.
        let height = (bottom - top).max(1.2);
        let _ = write!(d, "M{}.15 {}h.7v-{}h-.7Z", i, short(bottom), short(height));
    }
    d
}

/// The same values for a script that reads them out: a bar too low to be seen is drawn higher than it is.
pub fn read_out(values: &[f64]) -> String {
    values.iter().map(|v| short_of(*v, 100.0)).collect::<Vec<_>>().join(" ")
}

/// A tile's little line: its own scale, from the lowest value up, so that change is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spark {
    pub width: usize,
    pub line: String,
    pub area: String,
    /// `d` of the end dot; empty without data.
    pub dot: String,
}

impl Spark {
    pub fn of(points: &[Option<f64>]) -> Self {
        let known: Vec<f64> = points.iter().flatten().copied().collect();
        let Some(low) = known.iter().copied().reduce(f64::min) else { return Self::default() };
        let high = known.iter().copied().fold(low, f64::max);
        // A flat line lies in the middle, or at the bottom when it is flat at nothing.
        let (low, top) = match high - low {
            d if d > 0.0 => (low - d * 0.15, d * 1.3),
            _ if high > 0.0 => (0.0, high * 2.0),
            _ => (0.0, 1.0),
        };
        let shifted: Vec<Option<f64>> = points.iter().map(|p| p.map(|v| v - low)).collect();
        let scale = Scale { base: 0.0, top, steps: 1 };
        let dot = shifted
            .iter()
            .enumerate()
            .rev()
            .find_map(|(i, p)| p.map(|v| format!("M{i} {}h0", short(scale.y(v)))))
            .unwrap_or_default();
        Self {
            width: points.len().saturating_sub(1).max(1),
            line: line(&shifted, &scale),
            area: area(&shifted, &scale),
            dot,
        }
    }
}

/// At most `most` points: each keeps its bucket's mean, so that sums stay right.
pub fn thin(points: &[Option<f64>], most: usize) -> Vec<Option<f64>> {
    if points.len() <= most || most == 0 {
        return points.to_vec();
    }
    (0..most)
        .map(|i| {
            let slice = &points[i * points.len() / most..(i + 1) * points.len() / most];
            let known: Vec<f64> = slice.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn a_scale_holds_its_maximum_in_few_round_steps() {
        for max in [0.0, 0.3, 1.0, 3.0, 7.0, 9.9, 59.0, 342.0, 1_284.0, 1e6, f64::NAN] {
            for whole in [false, true] {
                let s = Scale::of(max, whole);
                assert!(max.is_nan() || max <= s.top, "{max} in {s:?}");
                assert!((1..=5).contains(&s.steps), "{s:?}");
                assert!(max.is_nan() || max < 1.0 || s.top <= max * 2.0, "{max} wastes {s:?}");
            }
        }
        assert_eq!(Scale::of(342.0, true).labels(), ["400", "300", "200", "100", "0"]);
        assert_eq!(Scale::of(1_284.0, true).labels(), ["1,600", "1,200", "800", "400", "0"]);
        assert_eq!(Scale::of(0.0, true).labels(), ["1", "0"]);
        assert_eq!(Scale::halves(11.2).labels(), ["12", "6", "0"]);
        assert_eq!(Scale::halves(0.31).labels(), ["0.4", "0.2", "0"]);
        assert_eq!(Scale::low(1.0).labels(), ["1", "0"]);
        assert_eq!(Scale::low(4.0).labels(), ["4", "2", "0"]);
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let points = [Some(0.0), Some(5.0), None, Some(10.0)];
        let scale = Scale { base: 0.0, top: 10.0, steps: 2 };
        assert_eq!(lone(&points, &scale), "M3 0h0");
        assert_eq!(line(&points, &scale), "M0 100L1 50M3 0h0");
        assert_eq!(area(&points, &scale), "M0 100L0 100L1 50L1 100Z");
    }

    #[test]
    fn bands_lie_on_each_other() {
        let scale = Scale { base: 0.0, top: 10.0, steps: 2 };
        assert_eq!(band(&[0.0, 0.0], &[5.0, 10.0], &scale), "M0 50L1 0L1 100L0 100Z");
    }

    #[test]
    fn a_spark_of_nothing_draws_nothing_and_a_flat_one_lies_in_the_middle() {
        assert_eq!(Spark::of(&[None, None]), Spark::default());
        assert_eq!(Spark::of(&some(&[4.0, 4.0])).line, "M0 50L1 50");
        assert_eq!(Spark::of(&some(&[0.0, 0.0])).line, "M0 100L1 100");
        assert!(Spark::of(&some(&[1.0, 9.0])).dot.starts_with("M1 "));
    }

    #[test]
    fn shares_are_shown_from_where_they_differ() {
        for (least, labels) in [(99.2, ["100", "95", "90"]), (61.0, ["100", "75", "50"]), (12.0, ["100", "50", "0"])] {
            assert_eq!(Scale::percent(least).labels(), labels);
        }
        let scale = Scale::percent(95.0);
        assert_eq!(line(&some(&[90.0, 95.0, 100.0]), &scale), "M0 100L1 50L2 0");
        assert_eq!((level(95.0, &scale, 9), level(50.0, &scale, 9)), ("M0 50H9".to_owned(), String::new()));
    }

    #[test]
    fn bars_are_read_out_as_they_are() {
        assert_eq!(read_out(&[0.0, 0.05, 12.0, 3.456]), "0 0.05 12 3.46");
    }

    #[test]
    fn thinning_keeps_the_sum() {
        let points: Vec<_> = some(&(0..360).map(f64::from).collect::<Vec<_>>());
        let thin = thin(&points, 180);
        assert_eq!(thin.len(), 180);
        let sum = |p: &[Option<f64>]| p.iter().flatten().sum::<f64>();
        assert!((sum(&thin) * 2.0 - sum(&points)).abs() < 1e-6);
    }
}
