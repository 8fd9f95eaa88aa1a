//! What a delivery costs beyond a direct call, as `cargo bench` and `campanile plugin bench` measure it.
//!
//! "One by one" waits for each, and so measures how fast threads wake each other; "50 under way" is what load looks like.
//! Each figure is the median of seven rounds. Absent on purpose: which channels are measured, and how figures are shown.

use campanile_plugin::{Delivery, DeliveryError, DynChannel};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
pub const UNDER_WAY: usize = 50;
/// How long a round takes that was made to fit.
const ROUND: Duration = Duration::from_millis(150);

/// Microseconds for each delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub one_by_one: f64,
    pub under_way: f64,
}

/// Of a channel that takes messages for that recipient: `n` of them in a round one by one, four times as many together.
pub async fn cost(channel: &dyn DynChannel, recipient: &str, n: usize) -> Result<Cost, DeliveryError> {
    Ok(Cost {
        one_by_one: median(channel, recipient, 1, n).await?,
        under_way: median(channel, recipient, UNDER_WAY, n * 4).await?,
    })
}

/// How many deliveries one by one fill a round, from a few that are not measured otherwise.
pub async fn fitting(channel: &dyn DynChannel, recipient: &str) -> Result<usize, DeliveryError> {
    const TRIED: usize = 20;
    let each = round(channel, recipient, 1, TRIED).await?;
    Ok(((ROUND.as_secs_f64() * 1e6 / each) as usize).clamp(TRIED, 2_000))
}

/// About one KiB, as a notification is.
async fn one(channel: &dyn DynChannel, recipient: &str, text: &str) -> Result<(), DeliveryError> {
    let delivery = Delivery::new("0190c0de-0000-7000-8000-000000000001", recipient)
        .with_timeout(Duration::from_mins(1))
        .with_content("Doors open", text, "");
    channel.deliver(delivery).await.map(drop)
}

async fn round(channel: &dyn DynChannel, recipient: &str, under_way: usize, n: usize) -> Result<f64, DeliveryError> {
    let text = "Doors open at nine. ".repeat(45);
    let began = Instant::now();
    let all = stream::iter(0..n).map(|_| one(channel, recipient, &text)).buffer_unordered(under_way);
    all.try_for_each(|()| async { Ok(()) }).await?;
    Ok(began.elapsed().as_secs_f64() * 1e6 / n.max(1) as f64)
}

async fn median(channel: &dyn DynChannel, recipient: &str, under_way: usize, n: usize) -> Result<f64, DeliveryError> {
    // The first is for caches and threads to warm up.
    round(channel, recipient, under_way, n / 4 + 1).await?;
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(round(channel, recipient, under_way, n).await?);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[ROUNDS / 2])
}
