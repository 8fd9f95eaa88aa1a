//! What a running plugin must hold, at one isolation level: tried through the very loader that servers have.
//!
//! Nothing here waits for a fixed time to pass: each point waits for what must happen, and gives up after its limit.

use super::sheet::{Found, Sheet, failed, ok, skipped};
use crate::cli::plugin::room::Room;
use campanile_loader::{Plugin, Running, State};
use campanile_plugin::{Delivery, DeliveryError, wire::Description};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// For one delivery that nothing holds back.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// For what follows at once.
pub(super) const SOON: Duration = Duration::from_secs(3);
/// Longer than the host itself waits for any part of an end.
const STOP: Duration = Duration::from_secs(25);
const MANY: usize = 50;

pub struct Exam<'a> {
    pub room: &'a Room,
    pub plugin: &'a Plugin,
    pub config: &'a Value,
    pub recipient: &'a str,
    /// Kill its process under way.
    pub drill: bool,
}

/// An address that such a channel may take.
pub fn recipient(description: &Description, url: &str) -> String {
    match description.recipient.format.as_str() {
        "none" => "",
        "email" => "check@example.org",
        "phone" | "sms" | "e164" => "+12025550100",
        "url" | "uri" | "webhook" => url,
        _ => "ada",
    }
    .to_owned()
}

pub(super) fn after(began: Instant) -> String {
    let ms = began.elapsed().as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Until it is so; false when its time is over.
pub(super) async fn becomes(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

impl Exam<'_> {
    pub async fn run(&self, sheet: &mut Sheet<'_>, in_process: bool) {
        let Some(one) = sheet.point("starts", self.starts("one")).await else { return };
        let mut two = None;
        if sheet.point("delivers", self.delivers(&one)).await.is_some() {
            sheet.point("fifty at once", self.many(&one)).await;
            two = sheet.point("two instances", self.beside(&one)).await;
        }
        // Two that cross say nothing true of one that stands alone.
        if let Some(two) = &two {
            sheet.point("a delivery that is taken back", self.taken_back(&one)).await;
            sheet.point("a cancel that is repeated", self.cancelled_often(&one)).await;
            sheet.point("strange deliveries", self.garbage(&one)).await;
            sheet.point("stops while busy", self.stops_while_busy(two)).await;
            if self.drill && !in_process {
                sheet.point("its process is killed", self.killed(&one)).await;
            }
        }
        sheet.point("stops", self.stops(&one)).await;
        let both = [Some(&one), two.as_ref()];
        sheet.point("each token ends once", async { each_once(&both) }).await;
        sheet.point("lets go of everything", async { self.let_go(&both) }).await;
        sheet
            .point("crashes", async {
                if in_process {
                    return skipped(
                        "at this level a crash of the plugin is a crash of the server, and nothing can prevent it; \
                         isolation process can",
                    );
                }
                if self.drill {
                    ok("a dead process costs its deliveries one attempt")
                } else {
                    skipped("--drill tries it")
                }
            })
            .await;
    }

    /// With what the plugin itself said last, if it said more.
    pub(super) fn and_more(&self, why: String) -> String {
        match self.room.script.complaint() {
            Some(said) if !why.contains(&said) => format!("{why} ({said})"),
            _ => why,
        }
    }

    async fn start(&self, instance: &str) -> Result<Running, String> {
        self.plugin.start(instance, self.config).await.map_err(|e| self.and_more(e.to_string()))
    }

    async fn starts(&self, instance: &str) -> Found<Running> {
        let began = Instant::now();
        match self.start(instance).await {
            Ok(running) => Ok((running, format!("started, and healthy once, after {}", after(began)))),
            Err(why) => failed(why),
        }
    }

    /// How one ended, in words; the error is a fault of the plugin's.
    pub(super) async fn deliver(&self, to: &Running, limit: Duration) -> Result<String, String> {
        let id = uuid::Uuid::now_v7().to_string();
        let message = json!({
            "notification_id": id, "app": "check", "user_id": "ada", "title": "Doors open", "message": "At nine.",
            "notification_type": "check", "timestamp": "2026-01-01T09:00:00Z", "data": {}, "priority": "normal",
            "locale": "en"
        });
        let delivery = Delivery::new(&id, self.recipient)
            .with_content("Doors open", "At nine.", "<p>At nine.</p>")
            .with_message(&message)
            .with_timeout(limit);
        self.ended(to, delivery, limit).await
    }

    /// The same of any delivery.
    pub(super) async fn ended(&self, to: &Running, delivery: Delivery<'_>, limit: Duration) -> Result<String, String> {
        let began = Instant::now();
        let Err(error) = to.channel().deliver(delivery).await else {
            return Ok(format!("sent, after {}", after(began)));
        };
        let code = error.reason().code.as_ref();
        let fault = match code {
            "timeout" if began.elapsed() >= limit => {
                format!("it did not complete its token within {limit:?}; every token ends with one complete()")
            }
            "unavailable" if !works(to) => error.reason().to_string(),
            "panic" | "internal" | "lost" | "bad_outcome" => format!("it ended as a fault: {}", error.reason()),
            _ => return Ok(format!("ended as {}: {}; --to gives it another recipient", word(&error), error.reason())),
        };
        Err(self.and_more(fault))
    }

    async fn delivers(&self, one: &Running) -> Found {
        match self.deliver(one, LIMIT).await {
            Ok(how) => ok(format!("a message to {:?} was {how}", self.recipient).replace("was ended", "ended")),
            Err(why) => failed(why),
        }
    }

    async fn many(&self, one: &Running) -> Found {
        let began = Instant::now();
        let ends = join_all((0..MANY).map(|_| self.deliver(one, LIMIT))).await;
        match ends.into_iter().find_map(Result::err) {
            Some(why) => failed(why),
            None => ok(format!("each ended, all after {}", after(began))),
        }
    }

    /// What goes through one must not reach the other's host.
    async fn beside(&self, one: &Running) -> Found<Running> {
        let two = match self.start("two").await {
            Ok(two) => two,
            Err(why) => return failed(format!("a second instance beside the first does not start: {why}")),
        };
        let script = &self.room.script;
        let crossed = "an instance used the other's host; keep the host's pointer in the instance, never in a global";
        for (to, other) in [(&two, "one"), (one, "two")] {
            let before = script.requests_of(other);
            if let Err(why) = self.deliver(to, LIMIT).await {
                return failed(format!("beside another instance, {why}; {crossed}"));
            }
            if script.requests_of(other) != before {
                return failed(crossed);
            }
        }
        Ok((two, "each worked on its own host".to_owned()))
    }

    async fn stops_while_busy(&self, two: &Running) -> Found {
        let script = &self.room.script;
        let before = script.requests();
        script.hold();
        // Who takes fewer at once has the rest wait outside, where a stop sends them elsewhere.
        let busy = self.plugin.description().max_concurrency.clamp(1, 5);
        let under_way = join_all((0..busy).map(|_| self.deliver(two, LIMIT)));
        let stop = async {
            tokio::select! { () = script.more_than(before) => {}, _ = becomes(SOON, || two.under_way() == 0) => {} }
            let stopped = two.channel().stop();
            becomes(SOON, || two.life().state != State::Running).await;
            script.release();
            tokio::time::timeout(STOP, stopped).await.is_ok()
        };
        let (ends, stopped) = tokio::join!(under_way, stop);
        let lost = ends.into_iter().find_map(Result::err);
        match (ended(two, stopped), lost) {
            (Err(why), _) => failed(why),
            (Ok(()), Some(why)) => failed(format!("a delivery under way was lost: {why}")),
            (Ok(()), None) => ok("what was under way ended first"),
        }
    }

    async fn stops(&self, one: &Running) -> Found {
        let began = Instant::now();
        let stopped = tokio::time::timeout(STOP, one.channel().stop()).await.is_ok();
        match ended(one, stopped) {
            Ok(()) => ok(format!("stop and destroy returned after {}", after(began))),
            Err(why) => failed(self.and_more(why)),
        }
    }
}

pub(super) fn works(running: &Running) -> bool {
    matches!(running.life().state, State::Running | State::Degraded)
}

fn word(error: &DeliveryError) -> &'static str {
    match error {
        DeliveryError::Throttled { .. } => "throttled",
        DeliveryError::Permanent { .. } => "permanent",
        DeliveryError::RecipientGone { .. } => "recipient gone",
        DeliveryError::Misconfigured { .. } => "misconfigured",
        _ => "retry",
    }
}

/// Whether an instance has really ended.
fn ended(running: &Running, stopped: bool) -> Result<(), String> {
    let life = running.life();
    match life.detail {
        _ if !stopped => Err(format!("it did not end within {STOP:?}: stop() must complete, destroy() must return")),
        Some(why) if life.state == State::Stopped => Err(format!("{why}; destroy() ends every thread and returns")),
        _ => Ok(()),
    }
}

fn each_once(all: &[Option<&Running>]) -> Found {
    match all.iter().flatten().map(|running| running.counts().unknown).sum::<u64>() {
        0 => ok("no second end, and none of a token that never was"),
        n => failed(format!(
            "{n} ends were of tokens that had ended, or never were; call complete() once for each token"
        )),
    }
}
