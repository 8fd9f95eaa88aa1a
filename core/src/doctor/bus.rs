//! The node bus: does it answer, and does what is published come round.

use super::{Finding, broker};
use crate::config::{Config, bus::Target};
use futures_util::StreamExt;
use redis::Client;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use url::Url;

const WHAT: &str = "bus";
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn check(config: &Config) -> Vec<Finding> {
    match config.bus.target(&config.queue) {
        Ok(Target::Redis(url)) => vec![redis(url.expose()).await],
        // One that follows the queue was looked at with it.
        Ok(Target::Rabbit(broker)) if !config.bus.url.is_empty() => {
            broker::visit(broker, config.bus.url.expose(), false).await
        }
        Ok(Target::Rabbit(_) | Target::Embedded) => Vec::new(),
        Err(e) => vec![Finding::wrong(WHAT, format!("bus.url {e}"), "campanile config check")],
    }
}

async fn redis(url: &str) -> Finding {
    let shown = crate::config::load::mask_password(url);
    let start = Instant::now();
    let came = match timeout(PATIENCE, there_and_back(url)).await {
        Ok(came) => came,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let took = start.elapsed().as_secs_f64() * 1000.0;
    match came {
        Ok(()) => Finding::good(WHAT, format!("{shown}: a signal came back in {took:.0} ms")),
        Err(e) => {
            let fix =
                "start Redis, check host, port, user and password in bus.url; the user needs +@pubsub and its channel";
            Finding::wrong(WHAT, format!("{shown}: {e}"), fix)
        }
    }
}

/// On a channel of our own, so that no node hears of it.
async fn there_and_back(url: &str) -> Result<(), String> {
    let mut url = Url::parse(url).map_err(|e| e.to_string())?;
    url.set_query(None);
    let client = Client::open(url.as_str()).map_err(|e| e.to_string())?;
    let ask = async {
        let channel = format!("campanile.bus.doctor.{}", uuid::Uuid::new_v4());
        let mut heard = client.get_async_pubsub().await?;
        heard.subscribe(&channel).await?;
        let mut publisher = client.get_multiplexed_async_connection().await?;
        let _: i64 = redis::cmd("PUBLISH").arg(&channel).arg("ping").query_async(&mut publisher).await?;
        Ok::<_, redis::RedisError>(heard.into_on_message().next().await.is_some())
    };
    match ask.await {
        Ok(true) => Ok(()),
        Ok(false) => Err("the connection ended".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}
