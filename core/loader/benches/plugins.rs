//! What a delivery costs beyond a direct call, in both isolation levels: `cargo bench -p campanile-loader`.
//!
//! The plugins do nothing, so what is measured is the way there and back. "One by one" waits for each, and so measures how
//! fast threads wake each other; "50 under way" is what load looks like. Each figure is the median of seven rounds.
#![allow(clippy::print_stdout, clippy::unwrap_used, dead_code)]

#[path = "../tests/it/build.rs"]
mod build;
#[path = "../tests/it/house.rs"]
mod house;

use campanile_loader::Isolation;
use campanile_plugin::{DynChannel, prelude::*};
use futures_util::{StreamExt, stream};
use house::House;
use std::time::Instant;

const ROUNDS: usize = 7;
const UNDER_WAY: usize = 50;

/// What is linked in: no line is crossed.
struct Direct;

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

impl Channel for Direct {
    type Config = Nothing;
    const INFO: Info = info!("direct");

    async fn start(_: Nothing, _: Context) -> Result<Self, StartError> {
        Ok(Self)
    }

    async fn deliver(&self, _: Delivery<'_>) -> Result<Receipt, DeliveryError> {
        Ok(Receipt::new())
    }
}

/// About one KiB, as a notification is.
async fn one(channel: &dyn DynChannel, text: &str) {
    let delivery = Delivery::new("0190c0de-0000-7000-8000-000000000001", "ok")
        .with_timeout(Duration::from_mins(1))
        .with_content("Doors open", text, "");
    channel.deliver(delivery).await.unwrap();
}

/// Microseconds for each.
async fn round(channel: &dyn DynChannel, under_way: usize, n: usize) -> f64 {
    let text = "Doors open at nine. ".repeat(45);
    let began = Instant::now();
    stream::iter(0..n).map(|_| one(channel, &text)).buffer_unordered(under_way).for_each(|()| async {}).await;
    began.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(n).unwrap())
}

async fn median(channel: &dyn DynChannel, under_way: usize, n: usize) -> f64 {
    round(channel, under_way, n / 4).await;
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(round(channel, under_way, n).await);
    }
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

async fn row(what: &str, channel: &dyn DynChannel, n: usize) {
    let (alone, together) = (median(channel, 1, n).await, median(channel, UNDER_WAY, n * 4).await);
    println!("{what:<34} {alone:>14.2} {together:>16.2}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{:<34} {:>14} {:>16}", "µs for each delivery", "one by one", "50 under way");
        row("direct call", &Direct, 200_000).await;
        let c = build::villain(&["-O2"]);
        let rust = build::drill("release", &["--release"]);
        for isolation in house::BOTH {
            let word = match isolation {
                Isolation::Process => "process",
                Isolation::InProcess => "in-process",
            };
            let house = House::new();
            let plugin = house.villain_with(&c, isolation, |_| {}).await;
            row(&format!("{word}, in C"), plugin.channel(), 5_000).await;
            plugin.channel().stop().await;
            let plugin = house.drill(&rust, isolation, &serde_json::json!({ "label": "x" })).await;
            row(&format!("{word}, in Rust"), plugin.channel(), 5_000).await;
            plugin.channel().stop().await;
        }
    });
}
