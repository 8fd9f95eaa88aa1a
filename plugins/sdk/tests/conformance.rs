//! The exam itself: a good channel passes, and each kind of bad one is found out.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, Script, block_on, conformance},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    url: Url,
    #[serde(default)]
    pause: Option<Span>,
}

struct Hook {
    context: Context,
    config: Config,
}

impl Channel for Hook {
    type Config = Config;
    const INFO: Info = info!("hook").recipient("room");
    async fn start(config: Config, context: Context) -> Result<Self, StartError> {
        Ok(Self { context, config })
    }
    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let http = self.context.http();
        http.get(&self.config.url).send().await?;
        if let Some(pause) = self.config.pause {
            self.context.sleep(*pause).await;
        }
        Receipt::from_http(http.post(&self.config.url).json(&json!({ "text": d.text() })).send().await?)
    }
}

fn config() -> Value {
    json!({ "url": "https://example.org/in" })
}

#[test]
fn a_good_channel_passes() {
    conformance::<Hook>(&config(), &Sample::to("room"));
}

#[test]
fn the_harness_scripts_the_far_side() {
    block_on(async {
        let hook = Harness::<Hook>::start(config()).await.unwrap();
        let sample = Sample::to("room").text("Hi");
        assert_eq!(hook.deliver_ok(&sample).await.detail, Some(json!({ "http_status": 200 })));
        let next = |status| {
            hook.script()
                .reply(HttpReply::new(200, ""))
                .reply(HttpReply::new(status, "so it is").with_header("retry-after", "7"));
        };
        next(503);
        assert_eq!(hook.expect_retry(&sample).await.message, "the provider said: so it is");
        next(429);
        assert_eq!(hook.expect_throttled(&sample).await.0, Some(Duration::from_secs(7)));
        next(404);
        assert_eq!(hook.expect_permanent(&sample).await.code, "http_404");
        next(410);
        hook.expect_gone(&sample).await;
        next(401);
        hook.expect_misconfigured(&sample).await;
        hook.script().fail(HttpError::parse("connect: no route"));
        assert_eq!(hook.expect_retry(&sample).await.code, "connect");
        assert_eq!(hook.health().await, Health::Ok);
        assert!(Harness::<Hook>::start(json!({ "url": "ftp://x" })).await.is_err());
        hook.stop().await;
    });
}

#[test]
fn time_stands_still_until_the_test_moves_it() {
    let script = Script::new();
    let config = json!({ "url": "https://example.org", "pause": "1h" });
    let hook = block_on(Harness::<Hook>::start_on(config, script.clone())).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(hook.deliver_ok(&Sample::to("room")));
            done.store(true, Ordering::SeqCst);
        });
        script.wait_until("it sleeps", |s| s.sleeping() == 1);
        script.advance(Duration::from_secs(3599));
        assert!(!done.load(Ordering::SeqCst) && script.sleeping() == 1);
        script.advance(Duration::from_secs(1));
    });
    assert!(done.load(Ordering::SeqCst));
}

macro_rules! bad {
    ($name:ident, $config:ty, $said:literal, |$this:ident, $d:ident| $deliver:block) => {
        #[test]
        fn $name() {
            struct Bad {
                context: Context,
                lock: Mutex<bool>,
            }
            impl Channel for Bad {
                type Config = $config;
                const INFO: Info = info!(stringify!($name));
                async fn start(_: $config, context: Context) -> Result<Self, StartError> {
                    Ok(Self { context, lock: Mutex::default() })
                }
                async fn deliver(&self, $d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
                    let $this = self;
                    $deliver
                }
            }
            let exam = || conformance::<Bad>(&json!({ "url": "https://example.org" }), &Sample::to("x"));
            let failed = catch_unwind(AssertUnwindSafe(exam)).expect_err("the exam lets it pass");
            let said = failed.downcast_ref::<String>().cloned();
            let said = said.or_else(|| failed.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            assert!(said.contains($said), "{said}");
        }
    };
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Lenient {
    url: Url,
}

bad!(a_configuration_that_takes_any_key_is_found, Lenient, "deny_unknown_fields", |this, _d| {
    let _ = (&this.context, &this.lock);
    Ok(Receipt::new())
});

bad!(a_flag_that_a_cancel_leaves_behind_is_found, Config, "the sample is not delivered", |this, _d| {
    if std::mem::replace(&mut *this.lock.lock().unwrap(), true) {
        return Err(DeliveryError::retry(Reason::new("busy", "another delivery is under way")));
    }
    let reply = this.context.http().get("https://example.org").send().await;
    *this.lock.lock().unwrap() = false;
    Receipt::from_http(reply?)
});

bad!(a_thread_that_outlives_its_instance_is_found, Config, "no thread of the channel is left", |this, _d| {
    let _ = &this.lock;
    if !std::mem::replace(&mut *this.lock.lock().unwrap(), true) {
        std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
    }
    Receipt::from_http(this.context.http().get("https://example.org").send().await?)
});
