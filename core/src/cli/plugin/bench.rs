//! `campanile plugin bench FILE`: what each delivery costs at both isolation levels, measured as `cargo bench` does.
//!
//! Requests through the host are answered at once, so what is measured is the plugin and the way to it and back. In-process
//! runs in a process of its own here as well, so that a crash is told. Absent on purpose: the far side.

use super::{
    inside::{self, End},
    least,
    room::Room,
};
use crate::{
    channel::setup::schema::Schema,
    cli::{
        exit::{Failure, Outcome},
        output::Output,
        plugin::check::recipient,
    },
};
use campanile_loader::{Isolation, overhead};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The plugin's file.
    file: PathBuf,
    /// A configuration, as JSON or as @FILE; without it the least that the plugin's schema requires.
    #[arg(long, value_name = "JSON")]
    with: Option<String>,
    /// A recipient that the plugin delivers to.
    #[arg(long, value_name = "RECIPIENT")]
    to: Option<String>,
    /// This is the process that in-process is measured in.
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Serialize, Deserialize)]
struct Order {
    config: Option<Value>,
    to: Option<String>,
}

/// Microseconds, or why there are none.
type Measured = Result<(f64, f64), String>;

pub async fn run(args: Args, out: Output) -> Outcome {
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    if args.inside {
        let order = inside::order()?;
        inside::tell(&measured(&Room::open().await?, &file, Isolation::InProcess, &order).await);
        inside::end();
        return Ok(());
    }
    let order = Order { config: super::given(args.with.as_deref())?, to: args.to };
    let room = Room::open().await?;
    let process = measured(&room, &file, Isolation::Process, &order).await.map_err(|why| {
        Failure::failed(format!("{} can't be measured", args.file.display()))
            .why(why)
            .next(format!("campanile plugin check {}", args.file.display()))
    })?;
    let here = in_process(&room, &file, &order).await?;
    let ratio = here.as_ref().ok().map(|(one, many)| (process.0 / one, process.1 / many));
    let pair = |(one, many): (f64, f64)| json!({ "one_by_one": one, "fifty_under_way": many });
    let answer = json!({
        "unit": "microseconds", "process": pair(process), "in_process": here.as_ref().ok().map(|m| pair(*m)),
        "ratio": ratio.map(pair),
    });
    out.show(&answer, |out| {
        let row = |what: &str, (one, many): (f64, f64)| {
            out.line(format!("{what:<22} {one:>12.2} {many:>16.2}"));
        };
        out.line(format!("{:<22} {:>12} {:>16}", "µs for each delivery", "one by one", "50 under way"));
        match &here {
            Ok(measured) => row("in-process", *measured),
            Err(why) => out.line(format!("{:<22} none: {why}", "in-process")),
        }
        row("process", process);
        if let Some(ratio) = ratio {
            row("process ÷ in-process", ratio);
        }
    });
    Ok(())
}

async fn in_process(room: &Room, file: &Path, order: &Order) -> Outcome<Measured> {
    let args = ["plugin", "bench", "--inside"].map(Into::into).into_iter().chain([file.into()]);
    let (mut told, input) = (None, serde_json::to_string(order).unwrap_or_default());
    let end = inside::run(args, &room.folder, input, |measured: Measured| told = Some(measured)).await?;
    Ok(match (end, told) {
        (End::Well, Some(measured)) => measured,
        (End::Well, None) => Err("nothing came back".to_owned()),
        (End::Died(how), _) => Err(format!("the process {how}")),
        (End::Silent, _) => Err("it took longer than a minute".to_owned()),
    })
}

async fn measured(room: &Room, file: &Path, isolation: Isolation, order: &Order) -> Measured {
    let plugin = room.load(file, isolation).await.map_err(|refusal| refusal.to_string())?;
    let description = plugin.description();
    if isolation == Isolation::InProcess && description.recommended_isolation.as_deref() == Some("process") {
        return Err("it asks for a process of its own".to_owned());
    }
    let schema = Schema::of(description)?;
    let config = least::made(&plugin, &schema, order.config.as_ref(), &room.url).await?;
    let running = plugin.start("bench", &config).await.map_err(|e| e.to_string())?;
    let to = order.to.clone().unwrap_or_else(|| recipient(description, &room.url));
    let measured = async {
        let n = overhead::fitting(running.channel(), &to).await?;
        overhead::cost(running.channel(), &to, n).await
    };
    let measured = measured.await;
    running.channel().stop().await;
    measured.map(|cost| (cost.one_by_one, cost.under_way)).map_err(|e| format!("a delivery failed: {e}"))
}
