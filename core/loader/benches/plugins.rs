//! What a delivery costs beyond a direct call, in both isolation levels: `cargo bench`.
//!
//! The plugins do nothing, so what is measured is the way there and back. `overhead` says how it is measured; `campanile
//! plugin bench FILE` does the same with a plugin that does something.
#![allow(clippy::print_stdout, clippy::unwrap_used, dead_code)]

#[path = "../tests/it/build.rs"]
mod build;
#[path = "../tests/it/house.rs"]
mod house;

use campanile_loader::overhead::{self, Cost};
use campanile_plugin::{DynChannel, prelude::*};
use house::House;

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

async fn row(what: &str, channel: &dyn DynChannel, n: usize) {
    let Cost { one_by_one, under_way } = overhead::cost(channel, "ok", n).await.unwrap();
    println!("{what:<34} {one_by_one:>14.2} {under_way:>16.2}");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{:<34} {:>14} {:>16}", "µs for each delivery", "one by one", "50 under way");
        row("direct call", &Direct, 200_000).await;
        let c = build::villain(&["-O2"]);
        let rust = build::drill("release", &["--release"]);
        for isolation in house::BOTH {
            let word = isolation.word();
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
