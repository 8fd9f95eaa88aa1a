//! A channel that fails in every way it is told to, for tests of hosts. The recipient is the order: `ok`, `panic`, `bomb`,
//! `hang`, `ask`, `http <url>`, `sleep <ms>`, `block <ms>`, `instant`, `log`, `metric`, `thread`, `linger`, and the names of
//! outcomes.

use campanile_plugin::{
    prelude::*,
    schemars::{Schema, SchemaGenerator, json_schema},
};
use std::{
    borrow::Cow,
    panic::panic_any,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Comes back as the provider's id, to tell instances apart.
    label: String,
    /// Of `start`, `validate`, `health`, `stop`, `drop`: where to panic.
    #[serde(default)]
    panic_in: Vec<String>,
    /// Why not to start.
    #[serde(default)]
    refuse: Option<String>,
    #[serde(default)]
    token: Secret,
    #[serde(default)]
    #[allow(dead_code)]
    fuse: Fuse,
}

/// Its schema can't be made the second time.
#[derive(Default, Deserialize)]
pub struct Fuse {}

impl JsonSchema for Fuse {
    fn schema_name() -> Cow<'static, str> {
        "Fuse".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        static MADE: AtomicU32 = AtomicU32::new(0);
        assert!(MADE.fetch_add(1, Ordering::SeqCst) != 1, "told to in describe");
        json_schema!({ "type": "object" })
    }
}

pub struct Drill {
    context: Context,
    config: Config,
}

/// Panics again when it is dropped.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb went off");
    }
}

/// Tells the log when its delivery ends, however it ends.
struct Told(Context);
impl Drop for Told {
    fn drop(&mut self) {
        self.0.log(Level::Info, "dropped");
    }
}

impl Drill {
    fn panics_in(&self, place: &str) {
        assert!(!self.config.panic_in.iter().any(|p| p == place), "told to in {place}");
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        self.panics_in("drop");
    }
}

impl Channel for Drill {
    type Config = Config;
    const INFO: Info = info!("drill").display_name("Drill").recipient("order").max_batch(4).asks_permission(true);

    fn validate(config: &Config) -> Result<(), Vec<Problem>> {
        assert!(!config.panic_in.iter().any(|p| p == "validate"), "told to in validate");
        if config.label.is_empty() {
            return Err(vec![Problem::new("label", "must not be empty")]);
        }
        Ok(())
    }

    async fn start(config: Config, context: Context) -> Result<Self, StartError> {
        assert!(!config.panic_in.iter().any(|p| p == "start"), "told to in start");
        match &config.refuse {
            Some(why) => Err(StartError::new(why)),
            None => Ok(Self { context, config }),
        }
    }

    async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        let (order, argument) = d.recipient().split_once(' ').unwrap_or((d.recipient(), ""));
        let ms = || Duration::from_millis(argument.parse().unwrap_or(0));
        let reason = || Reason::new("told_to", d.text());
        match order {
            "panic" => panic!("told to in deliver"),
            "bomb" => panic_any(Bomb),
            "hang" => {
                let _told = Told(self.context.clone());
                std::future::pending().await
            }
            "ask" => {
                let _told = Told(self.context.clone());
                if d.may_proceed() {
                    std::future::pending().await
                }
            }
            "http" => {
                let reply = self.context.http().post(argument).bearer(&self.config.token).body(d.text()).send().await?;
                return Receipt::from_http(reply);
            }
            "sleep" => self.context.sleep(ms()).await,
            "block" => thread::sleep(ms()),
            "instant" => instant().await,
            "log" => tracing::warn!(number = 7, name = %"x", "said {}", d.text()),
            "metric" => self.context.count("sent", 2.0, &[("kind", "test")]),
            "thread" => drop(thread::spawn(|| panic!("told to in a thread")).join()),
            "linger" => {
                // Never joined: it goes on talking to a host that may have ended its instance.
                let context = self.context.clone();
                thread::spawn(move || {
                    loop {
                        context.log(Level::Info, "lingering");
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            "retry" => {
                return Err(DeliveryError::Retry { after: Some(Duration::from_secs(5)), reason: reason().uncertain() });
            }
            "throttled" => return Err(DeliveryError::throttled(Some(Duration::from_secs(9)), reason())),
            "permanent" => return Err(DeliveryError::permanent(reason().detail(json!({ "a": 1 })))),
            "gone" => return Err(DeliveryError::recipient_gone(reason())),
            "misconfigured" => return Err(DeliveryError::misconfigured(reason())),
            _ => {}
        }
        Ok(Receipt::new().provider_id(&self.config.label))
    }

    async fn health(&self) -> Health {
        self.panics_in("health");
        Health::Degraded(self.config.label.clone())
    }

    async fn stop(&self) {
        self.panics_in("stop");
        self.context.log(Level::Info, "stopped");
    }
}

#[cfg(feature = "tokio")]
async fn instant() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[cfg(not(feature = "tokio"))]
async fn instant() {}

campanile_plugin::export!(Drill);
