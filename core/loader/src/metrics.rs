//! What a plugin measures: so many names, so many series, and no more.

use campanile_plugin::{MetricKind, Sample};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

const NAMES_MAX: usize = 50;
const SERIES_MAX: usize = 500;
const LABELS_MAX: usize = 8;
const TEXT_MAX: usize = 128;
/// Upper bounds of a histogram; plugins mostly measure seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All series of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Begins with `campanile_plugin_` and the plugin's name.
    pub name: String,
    pub kind: MetricKind,
    pub series: Vec<(Vec<(String, String)>, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A counter or a gauge.
    Number(f64),
    Histogram(Histogram),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub sum: f64,
    pub count: u64,
    /// Upper bound and how many lie below it, not added up.
    pub buckets: Vec<(f64, u64)>,
}

/// Of one plugin, all its instances together.
pub(crate) struct Samples {
    prefix: String,
    families: Mutex<BTreeMap<String, (MetricKind, Series)>>,
    dropped: AtomicU64,
}

type Series = BTreeMap<Vec<(String, String)>, Value>;

impl Samples {
    pub fn new(plugin: &str) -> Self {
        let prefix = format!("campanile_plugin_{plugin}_");
        Self { prefix, families: Mutex::default(), dropped: AtomicU64::new(0) }
    }

    pub fn take(&self, sample: Sample<'_>) {
        if !self.taken(sample) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn taken(&self, sample: Sample<'_>) -> bool {
        let adds = matches!(sample.kind, MetricKind::Counter);
        let plain = |text: &str| {
            let mut bytes = text.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_lowercase())
                && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        let good = sample.value.is_finite()
            && !(adds && sample.value < 0.0)
            && plain(sample.name)
            && sample.name.len() <= TEXT_MAX
            && sample.labels.len() <= LABELS_MAX
            && sample.labels.iter().all(|(k, v)| plain(k) && k.len() <= TEXT_MAX && v.len() <= TEXT_MAX && *k != "le");
        if !good {
            return false;
        }
        let mut labels: Vec<_> = sample.labels.iter().map(|(k, v)| ((*k).to_owned(), crate::clamp::line(v))).collect();
        labels.sort();
        labels.dedup_by(|a, b| a.0 == b.0);
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let series: usize = families.values().map(|(_, series)| series.len()).sum();
        let known = families.get(sample.name);
        let fits = match known {
            Some((kind, _)) if *kind != sample.kind => return false,
            Some((_, of)) => of.contains_key(&labels) || series < SERIES_MAX,
            None => families.len() < NAMES_MAX && series < SERIES_MAX,
        };
        if !fits {
            return false;
        }
        let (_, of) = families.entry(sample.name.to_owned()).or_insert_with(|| (sample.kind, Series::new()));
        let fresh = || match sample.kind {
            MetricKind::Histogram => {
                Value::Histogram(Histogram { buckets: BUCKETS.map(|b| (b, 0)).to_vec(), ..Histogram::default() })
            }
            _ => Value::Number(0.0),
        };
        match of.entry(labels).or_insert_with(fresh) {
            Value::Number(n) if adds => *n += sample.value,
            Value::Number(n) => *n = sample.value,
            Value::Histogram(h) => {
                h.sum += sample.value;
                h.count += 1;
                if let Some((_, n)) = h.buckets.iter_mut().find(|(bound, _)| sample.value <= *bound) {
                    *n += 1;
                }
            }
        }
        true
    }

    /// So many more were kept from us.
    pub fn not_taken(&self, samples: u64) {
        self.dropped.fetch_add(samples, Ordering::Relaxed);
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn families(&self) -> Vec<Family> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = |(name, (kind, series)): (&String, &(MetricKind, Series))| Family {
            name: format!("{}{name}", self.prefix),
            kind: *kind,
            series: series.iter().map(|(labels, value)| (labels.clone(), value.clone())).collect(),
        };
        families.iter().map(family).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>(kind: MetricKind, name: &'a str, value: f64, labels: &'a [(&'a str, &'a str)]) -> Sample<'a> {
        Sample { kind, name, value, labels }
    }

    #[test]
    fn kinds_add_set_and_observe() {
        let samples = Samples::new("sms");
        for value in [1.0, 2.0] {
            samples.take(sample(MetricKind::Counter, "sent", value, &[("a", "b")]));
            samples.take(sample(MetricKind::Gauge, "depth", value, &[]));
            samples.take(sample(MetricKind::Histogram, "took", value, &[]));
        }
        let families = samples.families();
        let names: Vec<_> = families.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["campanile_plugin_sms_depth", "campanile_plugin_sms_sent", "campanile_plugin_sms_took"]);
        assert_eq!(families[0].series[0].1, Value::Number(2.0));
        assert_eq!(families[1].series[0], (vec![("a".into(), "b".into())], Value::Number(3.0)));
        let Value::Histogram(h) = &families[2].series[0].1 else { panic!() };
        assert_eq!((h.sum, h.count, h.buckets.iter().map(|b| b.1).sum::<u64>()), (3.0, 2, 2));
    }

    #[test]
    fn a_flood_of_names_stays_small_and_is_counted() {
        let samples = Samples::new("x");
        for n in 0..100_000 {
            samples.take(sample(MetricKind::Gauge, &format!("n{n}"), 1.0, &[]));
        }
        assert_eq!((samples.families().len(), samples.dropped()), (NAMES_MAX, 100_000 - NAMES_MAX as u64));
        for n in 0..10_000 {
            samples.take(sample(MetricKind::Gauge, "n1", 1.0, &[("n", &n.to_string())]));
        }
        let series: usize = samples.families().iter().map(|f| f.series.len()).sum();
        assert_eq!(series, SERIES_MAX);
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        let samples = Samples::new("x");
        samples.take(sample(MetricKind::Gauge, "nan", f64::NAN, &[]));
        samples.take(sample(MetricKind::Counter, "down", -1.0, &[]));
        samples.take(sample(MetricKind::Gauge, "Bad Name\n", 1.0, &[]));
        samples.take(sample(MetricKind::Histogram, "h", 1.0, &[("le", "1")]));
        samples.take(sample(MetricKind::Gauge, "n", 1.0, &[]));
        samples.take(sample(MetricKind::Counter, "n", 1.0, &[]));
        assert_eq!((samples.dropped(), samples.families().len()), (5, 1));
    }
}
