//! How each channel stands: what it did in the last five minutes, since when it fails, why, and whether it works again.
//!
//! The status sentence, the plots' marks and the pages' health all read it here, so that they agree. Absent on purpose: the
//! rules that judge it (`admin-ui`'s sentence).

use super::{Facts, rings::Sample};
use crate::{channel::ChannelView, services::Services};
use campanile_admin_ui::{
    format,
    sentence::{Breaker, ChannelFacts},
};
use campanile_model::Timestamp;
use chrono::TimeDelta;
use std::sync::PoisonError;

/// Samples of ten seconds: five minutes, in which a channel is judged.
const JUDGED: usize = 30;
/// An hour, in which the start of failures is looked for.
const SOUGHT: usize = 360;
/// So many samples without a failure, and with a success, mean that it works again.
const WELL: usize = 3;

/// Every channel that is switched on, in name order.
pub fn of(s: &Services, facts: &Facts) -> Vec<ChannelFacts> {
    let (start, hour) = {
        let rings = s.console.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.read(s.clock.now(), 10, SOUGHT)
    };
    let one = |v: &ChannelView| ChannelFacts {
        cause: cause(s, v),
        target_ms: s.config.queue.target_ms(v.name.as_str()),
        ..one(v, facts, start, &hour)
    };
    s.channels.views().iter().filter(|v| v.enabled).map(one).collect()
}

/// What opened its breaker, what its health check says, or else what its newest failed attempt was answered.
fn cause(s: &Services, v: &ChannelView) -> Option<String> {
    let newest = || s.pulse.errors(&v.name).into_iter().max_by_key(|(_, e)| e.at).map(|(_, e)| e.said);
    let said = v.breaker.last_error.clone().or_else(|| v.health_detail.clone()).or_else(newest);
    said.map(|c| format::coded_once(&c)).filter(|c| !c.is_empty())
}

fn one(v: &ChannelView, facts: &Facts, start: Timestamp, hour: &[Option<Sample>]) -> ChannelFacts {
    let name = v.name.to_string();
    let (sent, failed) = sums(&hour[hour.len().saturating_sub(JUDGED)..], &name);
    let (well, broken) = sums(&hour[hour.len().saturating_sub(WELL)..], &name);
    let queue = facts.queues.get(&name).cloned().unwrap_or_default();
    let pause = facts.pauses.iter().find(|p| p.channel == v.name);
    ChannelFacts {
        attempts: sent + failed,
        failed,
        recovered: well > 0 && broken == 0,
        failing_since: v.breaker.since.or_else(|| failing_since(start, hour, &name)),
        cause: None,
        oldest_ms: queue.oldest_age_ms,
        target_ms: i64::MAX,
        held: queue.held,
        paused: pause.map(|p| (p.actor.trim_start_matches("admin:").to_owned(), p.reason.clone())),
        breaker: match v.breaker.state.as_str() {
            "open" => Breaker::Open,
            "half_open" => Breaker::HalfOpen,
            _ => Breaker::Closed,
        },
        restarting: restarting(v),
        name,
    }
}

/// An instance whose process ended and is to be started again, if there is one: why, and when.
fn restarting(v: &ChannelView) -> Option<(String, Option<Timestamp>)> {
    let lives = v.instances.iter().filter(|i| i.enabled).filter_map(|i| i.life.as_ref());
    let life = lives.filter(|life| life.state == "backoff").max_by_key(|life| life.crashed_at)?;
    let why = life.crash.clone().or_else(|| life.detail.clone()).unwrap_or_else(|| "it did not say why".to_owned());
    Some((why, life.next_start_at))
}

/// Successes and failures of a channel.
fn sums(samples: &[Option<Sample>], name: &str) -> (u64, u64) {
    samples.iter().flatten().filter_map(|s| s.channels.get(name)).fold((0, 0), |(sent, failed), c| {
        (sent + u64::from(c.sent), failed + u64::from(c.failed) + u64::from(c.retried))
    })
}

/// The first sample of the present run of failures.
fn failing_since(start: Timestamp, samples: &[Option<Sample>], name: &str) -> Option<Timestamp> {
    let fails =
        |s: &Option<Sample>| s.as_ref().and_then(|s| s.channels.get(name)).is_some_and(|c| c.failed + c.retried > 0);
    let last = samples.iter().rposition(fails)?;
    // Half a minute without a failure does not end the run: a breaker lets nobody try for so long.
    let mut first = last;
    while let Some(before) = (first.saturating_sub(6)..first).rev().find(|i| fails(&samples[*i])) {
        first = before;
    }
    Some(start + TimeDelta::seconds(10 * first as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::rings::Slot;
    use std::collections::BTreeMap;

    #[expect(clippy::unnecessary_wraps, reason = "rings hold a sample or none")]
    fn slot(sent: u32, retried: u32) -> Option<Sample> {
        let slot = Slot { sent, retried, ..Slot::default() };
        Some(Sample { channels: BTreeMap::from([("email".to_owned(), slot)]), ..Sample::default() })
    }

    #[test]
    fn a_run_of_failures_begins_at_its_first_sample() {
        let start = Timestamp::from_timestamp(1_800_000_000, 0).unwrap();
        let mut samples = vec![slot(0, 1)];
        samples.extend([const { None }; 8]);
        samples.extend([slot(0, 2), None, slot(3, 0), slot(0, 1), slot(1, 0)]);
        assert_eq!(failing_since(start, &samples, "email"), Some(start + TimeDelta::seconds(90)));
        assert_eq!(failing_since(start, &samples, "sms"), None);
    }

    #[test]
    fn sums_are_of_one_channel() {
        assert_eq!(sums(&[slot(2, 1), None, slot(3, 0)], "email"), (5, 1));
        assert_eq!(sums(&[slot(2, 1)], "sms"), (0, 0));
    }
}
