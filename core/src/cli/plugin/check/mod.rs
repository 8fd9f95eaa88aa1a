//! `campanile plugin check FILE`: what a server would find, found by its author first.
//!
//! One line for each point, and a sentence that says what to do. The file is admitted from its bytes and opened in a child by
//! the loader that servers have. At the level `process` its code never runs here; at `in-process` this command runs itself
//! again and listens, so that a plugin's crash is told like everything else. Absent on purpose: the lock (`plugin add`).

mod drills;
mod exam;
mod garbage;
mod linked;
mod sheet;

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
    },
};
use campanile_loader::{Admitted, Isolation, Linked, NOT_CHECKED, Plugin, Refusal, Step, check_file};
use campanile_plugin::Problem;
use exam::Exam;
pub(super) use exam::recipient;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheet::{Found, Not, Point, Report, Sheet, Told, Verdict, failed, ok, skipped};
use std::path::{Path, PathBuf};

/// Of a question about a configuration that the plugin did not survive, or not in time.
const UNANSWERED: [&str; 2] = [campanile_loader::DIED_CHECKING, NOT_CHECKED];

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The plugin's file.
    file: PathBuf,
    /// Where it is tried: in a process of its own, in one like the server's, or both.
    #[arg(long, default_value = "process", value_parser = ["process", "in-process", "both"])]
    level: String,
    /// A configuration, as JSON or as @FILE; without it the least that the plugin's schema requires.
    #[arg(long, value_name = "JSON")]
    with: Option<String>,
    /// A recipient that the plugin takes. Requests through the host are answered here and leave the machine never; a
    /// plugin with sockets of its own calls whatever its configuration names.
    #[arg(long, value_name = "RECIPIENT")]
    to: Option<String>,
    /// Kill its process while it delivers, too.
    #[arg(long)]
    drill: bool,
    /// This is the process that in-process is tried in.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What the process inside is told.
#[derive(Serialize, Deserialize)]
struct Order {
    config: Option<Value>,
    to: Option<String>,
}

pub async fn run(args: Args, out: Output) -> Outcome {
    let file = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    if args.inside {
        return inside(&file).await;
    }
    let order = Order { config: super::given(args.with.as_deref())?, to: args.to };
    let mut report = Report::new(out);
    let room = Room::open().await?;
    if let Some(plugin) = looked_at(&room, &file, &order, &mut report).await {
        if args.level != "in-process" {
            let mut tell = |told| report.take(told);
            examined(&room, &plugin, &order, args.drill, &mut Sheet::new("process", &mut tell)).await;
        }
        if args.level != "process" {
            let apart = plugin.description().recommended_isolation.as_deref() == Some("process");
            if apart {
                let said = "it asks for a process of its own (recommended_isolation), as a Go library must";
                let result = if args.level == "both" { Verdict::Skipped } else { Verdict::Failed };
                let (part, point) = ("in-process".to_owned(), "starts".to_owned());
                report.take(Told::Point(Point { part, point, result, said: said.to_owned() }));
            } else {
                crossed(&room, &file, &order, &mut report).await?;
            }
        }
    }
    end(&args.file, &report, out)
}

fn end(file: &Path, report: &Report, out: Output) -> Outcome {
    let (failed, warnings) = (report.count(Verdict::Failed), report.count(Verdict::Warned));
    let answer = json!({ "file": file, "passes": failed == 0, "warnings": warnings, "points": report.points });
    out.show(&answer, |out| {
        let but = match warnings {
            0 => String::new(),
            1 => ", with one warning".to_owned(),
            n => format!(", with {n} warnings"),
        };
        if failed == 0 {
            out.line(format!("It passes{but}. Next: campanile plugin add {}", file.display()));
        }
    });
    match failed {
        0 => Ok(()),
        1 => Err(Failure::failed("one point is not held").why("the line that says FAILED")),
        n => Err(Failure::failed(format!("{n} points are not held")).why("the lines that say FAILED")),
    }
}

/// What is true of the file at every level.
async fn looked_at(room: &Room, file: &Path, order: &Order, report: &mut Report) -> Option<Plugin> {
    let mut tell = |told| report.take(told);
    let mut sheet = Sheet::new("file", &mut tell);
    let file_itself = check_file(file);
    sheet.point("may load", async { admitted(&file_itself) }).await?;
    let linked = file_itself.map(|admitted| Linked::of(&admitted.bytes)).unwrap_or_default();
    sheet.point("exported names", async { linked::exports(&linked) }).await;
    sheet.point("needed libraries", async { linked::needs(&linked) }).await;
    let loaded = room.load(file, Isolation::Process).await;
    let step = loaded.as_ref().err().map(|refusal| refusal.step);
    sheet
        .point("opens", async {
            match &loaded {
                Err(refusal) if step != Some(Step::Describe) => failed(&refusal.reason),
                _ => ok("in a child: every symbol is found, the table is legal"),
            }
        })
        .await?;
    let describes = async {
        let plugin = loaded.map_err(|refusal| Not::Failed(refusal.reason))?;
        let d = plugin.description();
        let said = format!("as its manifest; {} at once, recipient {:?}", d.max_concurrency, d.recipient.format);
        Ok((plugin, said))
    };
    let plugin = sheet.point("describes itself", describes).await?;
    sheet.point("build", async { linked::build(&linked, plugin.description()) }).await;
    let schema = sheet.point("schema", async { schema(&plugin) }).await?;
    let config = configured(room, &plugin, &schema, order);
    let config = sheet.point("configuration", async { config.await.map(|c| (c, "accepted".to_owned())) }).await?;
    sheet.point("an empty configuration", empty(&plugin, &schema)).await;
    sheet.point("an unknown key", unknown(&plugin, &schema, &config)).await;
    sheet.point("strange configurations", garbage::configurations(&plugin, &config)).await;
    Some(plugin)
}

fn admitted(admitted: &Result<Admitted, Refusal>) -> Found {
    match admitted {
        Err(refusal) => failed(refusal.to_string()),
        Ok(Admitted { manifest: m, bytes, sha256 }) => ok(format!(
            "{} {} for {}, interface {}.{}; {} KiB, SHA-256 {sha256}",
            m.name,
            m.version,
            m.target,
            m.campanile_abi,
            m.min_minor,
            bytes.len().div_ceil(1024)
        )),
    }
}

fn schema(plugin: &Plugin) -> Found<Schema> {
    match Schema::of(plugin.description()) {
        Ok(schema) => Ok((schema, "the host's compiler takes it".to_owned())),
        Err(why) => failed(why),
    }
}

async fn configured(room: &Room, plugin: &Plugin, schema: &Schema, order: &Order) -> Result<Value, Not> {
    least::made(plugin, schema, order.config.as_ref(), &room.url).await.map_err(Not::Failed)
}

/// Through the schema, if one is to have a say, and the plugin; it is asked in any case, for it must survive the question.
async fn refused(plugin: &Plugin, schema: Option<&Schema>, config: &Value) -> Result<Option<String>, Not> {
    let said = plugin.validate(config).await.err();
    let died = |p: &&Problem| UNANSWERED.iter().any(|words| p.message.contains(words));
    if let Some(died) = said.iter().flatten().find(died) {
        let why = format!("{}; validate() answers every text, also one that is no configuration", died.message);
        return Err(Not::Failed(why));
    }
    Ok(schema.and_then(|schema| schema.check(config).err()).or(said).map(|problems| least::told(&problems)))
}

async fn empty(plugin: &Plugin, schema: &Schema) -> Found {
    match refused(plugin, Some(schema), &json!({})).await? {
        Some(why) => ok(format!("refused: {why}")),
        None => skipped("it needs none"),
    }
}

async fn unknown(plugin: &Plugin, schema: &Schema, config: &Value) -> Found {
    let mut more = config.clone();
    more["campanile_no_such_key"] = json!(1);
    match refused(plugin, Some(schema), &more).await? {
        Some(why) => ok(format!("refused: {why}")),
        None if plugin.description().config_schema.get("properties").is_none() => skipped("its schema names no keys"),
        None => failed(
            "it is taken, so a slip of the pen goes unseen; write \"additionalProperties\": false into the schema (Rust: \
             #[serde(deny_unknown_fields)] on the configuration)",
        ),
    }
}

/// All that it does when it runs, at the level that it is loaded for.
async fn examined(room: &Room, plugin: &Plugin, order: &Order, drill: bool, sheet: &mut Sheet<'_>) {
    let Ok(schema) = Schema::of(plugin.description()) else { return };
    let Ok(config) = least::made(plugin, &schema, order.config.as_ref(), &room.url).await else { return };
    let recipient = order.to.clone().unwrap_or_else(|| recipient(plugin.description(), &room.url));
    let in_process = plugin.entry().isolation == Isolation::InProcess;
    Exam { room, plugin, config: &config, recipient: &recipient, drill }.run(sheet, in_process).await;
}

/// In a process like the server's, which is told what happens in it.
async fn crossed(room: &Room, file: &Path, order: &Order, report: &mut Report) -> Outcome {
    let args = ["plugin", "check", "--inside"].map(Into::into);
    let input = serde_json::to_string(order).unwrap_or_default();
    let end = inside::run(args.into_iter().chain([file.into()]), &room.folder, input, |told| report.take(told)).await?;
    let said = match end {
        End::Well => return Ok(()),
        End::Died(how) => format!("the process {how}; at this level that would have been the server"),
        End::Silent => "nothing came back in a minute, and nobody can end it but with the process".to_owned(),
    };
    let point = report.under_way.take().unwrap_or_else(|| "ends".to_owned());
    report.take(Told::Point(Point { part: "in-process".to_owned(), point, result: Verdict::Failed, said }));
    Ok(())
}

/// The other side of [`crossed`].
async fn inside(file: &Path) -> Outcome {
    let order: Order = inside::order()?;
    let room = Room::open().await?;
    let mut tell = |told| inside::tell(&told);
    let mut sheet = Sheet::new("in-process", &mut tell);
    let loaded = room.load(file, Isolation::InProcess).await;
    match loaded {
        Ok(plugin) => examined(&room, &plugin, &order, false, &mut sheet).await,
        Err(refusal) => drop(sheet.point("starts", async { failed::<()>(refusal.to_string()) }).await),
    }
    drop(room);
    inside::end();
    Ok(())
}
