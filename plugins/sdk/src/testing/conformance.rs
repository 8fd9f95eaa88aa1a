//! The exam that every channel passes.

use super::{Handed, Instance, Plugin, Sample, Script, block_on};
use crate::{
    Channel,
    wire::{Description, Outcome, Status},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Tries the channel with a configuration that works and a sample that is delivered when every request is answered with
/// 200 and `{}`. Panics at the first thing that is wrong.
///
/// It checks the description and the configuration's schema; that an unknown key is refused; a plain delivery; a cancel at
/// every request and sleep; 1000 deliveries at once; two instances side by side; a stop while busy; and that the end of
/// the last instance leaves no thread behind (on Linux).
pub fn conformance<C: Channel>(config: &Value, sample: &Sample) {
    conformance_on::<C>(config, sample, Script::new);
}

/// As [`conformance`], for channels that need other answers: `script` makes the host for each instance.
pub fn conformance_on<C: Channel>(config: &Value, sample: &Sample, script: impl Fn() -> Arc<Script>) {
    let exam = Exam { plugin: Plugin::of::<C>(), config: config.clone(), sample: sample.clone(), script: &script };
    exam.describes_itself::<C>();
    exam.refuses_wrong_configurations();
    block_on(exam.ends_at_every_await());
    block_on(exam.a_thousand_at_once());
    block_on(exam.two_side_by_side());
    block_on(exam.stops_while_busy());
    exam.leaves_no_thread();
}

/// How long a thread may show after it was joined.
const JOINED: Duration = Duration::from_secs(5);

struct Exam<'a> {
    plugin: Plugin,
    config: Value,
    sample: Sample,
    script: &'a dyn Fn() -> Arc<Script>,
}

impl Exam<'_> {
    async fn start(&self) -> (Instance, Arc<Script>) {
        let script = (self.script)();
        match self.plugin.start(&self.config.to_string(), script.clone()).await {
            Ok(instance) => (instance, script),
            Err(outcome) => panic!("the configuration that works does not start: {}", outcome.message),
        }
    }

    fn samples(&self, n: usize) -> Vec<Sample> {
        (0..n).map(|i| self.sample.clone().id(format!("0190c0de-0000-7000-8000-{i:012}"))).collect()
    }

    fn describes_itself<C: Channel>(&self) {
        let text = self.plugin.describe();
        let read: Description = serde_json::from_slice(&text).unwrap_or_else(|e| {
            panic!("describe() does not write a description: {e}: {}", String::from_utf8_lossy(&text))
        });
        assert_eq!(read.info(), C::INFO, "what describe() writes is read as something else");
        let schema = &read.config_schema;
        assert_eq!(schema["type"], "object", "the configuration must be a struct");
        let known = |key: &str| schema["properties"].get(key).is_some();
        let Value::Object(config) = &self.config else { panic!("the configuration must be an object") };
        for key in config.keys() {
            assert!(known(key), "the schema does not know the key {key:?} of the configuration that works");
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(config.contains_key(key), "the schema requires {key:?}, and the configuration that works has none");
        }
        assert_eq!(schema["additionalProperties"], false, "write #[serde(deny_unknown_fields)] on the configuration");
    }

    fn refuses_wrong_configurations(&self) {
        assert_eq!(
            self.plugin.validate(&self.config.to_string()),
            Ok(vec![]),
            "the configuration that works has problems"
        );
        let mut more = self.config.clone();
        more["campanile_no_such_key"] = json!(1);
        for wrong in [more.to_string(), "[]".into(), "7".into(), "{".into(), String::new()] {
            let problems = self.plugin.validate(&wrong).unwrap_or_else(|e| panic!("{e}"));
            assert!(!problems.is_empty(), "validate() has nothing against the configuration {wrong:?}");
            let Err(outcome) = block_on(self.plugin.start(&wrong, (self.script)())) else {
                panic!("start() takes the configuration {wrong:?}")
            };
            assert_eq!(outcome.status, Status::Misconfigured, "start() refuses {wrong:?} with {outcome:?}");
        }
    }

    /// Cancels a delivery at its first request or sleep, then at its second, and so on until one gets through.
    async fn ends_at_every_await(&self) {
        let (instance, script) = self.start().await;
        for n in 1.. {
            assert!(n < 1000, "a delivery of this sample takes 1000 requests and more");
            script.hold_only(n);
            let held = script.held();
            let mut handed = instance.hand_over(std::slice::from_ref(&self.sample.0));
            let token = handed[0].token;
            let end = handed.pop().map(Handed::end);
            let end = std::thread::spawn(move || end.map(block_on));
            script.wait_until("a delivery waits for its host or ends", |s| s.held() > held || end.is_finished());
            let waits = script.held() > held;
            instance.cancel(token);
            let outcome = end.join().ok().flatten().unwrap_or_else(|| panic!("waiting for the end failed"));
            script.release();
            if !waits {
                // A cancel that comes too late changes nothing.
                assert_eq!(outcome.status, Status::Ok, "the sample is not delivered: {outcome:?}");
                break;
            }
            let fine = matches!(outcome.status, Status::Cancelled | Status::Retry);
            assert!(fine, "cancelled at its request or sleep number {n}, the delivery ended with {outcome:?}");
        }
        self.delivers(&instance, "after deliveries were cancelled").await;
        assert_eq!(instance.faults(), 0, "a token was completed twice");
    }

    async fn delivers(&self, instance: &Instance, when: &str) {
        let outcome = instance.deliver(&self.sample.0).await;
        assert_eq!(outcome.status, Status::Ok, "{when} the sample is not delivered: {outcome:?}");
    }

    async fn a_thousand_at_once(&self) {
        let (instance, _script) = self.start().await;
        let samples: Vec<_> = self.samples(1000).into_iter().map(|s| s.0).collect();
        let batch = wire_batch(&self.plugin);
        let handed: Vec<_> = samples.chunks(batch).flat_map(|chunk| instance.hand_over(chunk)).collect();
        for outcome in join_all(handed.into_iter().map(Handed::end)).await {
            assert_eq!(outcome.status, Status::Ok, "one of 1000 deliveries at once failed: {outcome:?}");
        }
        assert_eq!(instance.faults(), 0, "a token was completed twice");
    }

    /// What goes through one must not reach the other's host, and the end of one must not touch the other.
    async fn two_side_by_side(&self) {
        let ((one, script_one), (two, script_two)) = (self.start().await, self.start().await);
        let before = (script_one.requests().len(), script_two.requests().len());
        self.delivers(&one, "beside another instance").await;
        assert_eq!(script_two.requests().len(), before.1, "one instance used the other's host");
        self.delivers(&two, "beside another instance").await;
        let sent = script_one.requests().len();
        assert!(sent == before.0 || script_two.requests().len() > before.1, "one instance used the other's host");
        assert_eq!((one.faults(), two.faults()), (0, 0), "a token was completed on the other's line");
        one.destroy();
        self.delivers(&two, "after another instance ended").await;
        assert_eq!(script_one.requests().len(), sent, "one instance used the other's host");
    }

    async fn stops_while_busy(&self) {
        let (instance, script) = self.start().await;
        script.hold();
        let samples: Vec<_> = self.samples(10).into_iter().map(|s| s.0).collect();
        let handed: Vec<_> = samples.iter().flat_map(|s| instance.hand_over(std::slice::from_ref(s))).collect();
        let tokens: Vec<_> = handed.iter().map(|h| h.token).collect();
        let ends = std::thread::spawn(move || block_on(join_all(handed.into_iter().map(Handed::end))));
        let stop = instance.stop();
        for token in &tokens {
            instance.cancel(*token);
        }
        let outcomes: Vec<Outcome> = ends.join().unwrap_or_else(|_| panic!("waiting for the ends failed"));
        assert_eq!(outcomes.len(), tokens.len());
        script.release();
        let stopped = stop.await;
        assert!(stopped.is_none_or(|o| o.status == Status::Ok), "stop() failed");
        let faults = instance.watch();
        instance.destroy();
        assert_eq!(faults(), 0, "a token was completed twice, or after the end");
    }

    /// Threads inherit their name from the one that makes them, so even a thread that the channel made is found.
    fn leaves_no_thread(&self) {
        let (instance, script) = block_on(self.start());
        block_on(self.delivers(&instance, "at last"));
        let own = instance.thread();
        let left = || thread_names().iter().filter(|name| **name == own).count();
        if own.is_empty() {
            return;
        }
        assert!(left() > 0, "no thread of this process is named {own:?}");
        instance.destroy();
        // The kernel forgets a thread a moment after it was joined.
        script.wait_for(JOINED, "no thread of the channel is left after destroy", |_| left() == 0);
    }
}

fn wire_batch(plugin: &Plugin) -> usize {
    serde_json::from_slice::<Description>(&plugin.describe()).map_or(1, |d| d.max_batch.max(1))
}

/// Of this process; none where the system doesn't tell.
fn thread_names() -> Vec<String> {
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect()
}
