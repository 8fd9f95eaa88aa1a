//! The first time a file's code runs: in a child that is thrown away, with five seconds to live.

use crate::{
    Limits, Refusal, Runner, Step,
    child::{Child, Lines},
    frame::{Kind, Reader, Writer},
    native,
};
use campanile_plugin::{
    Problem,
    wire::{self, Description, Manifest},
};
use serde_json::Value;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// In the reason when a plugin's process did not survive a question about a configuration.
pub const DIED_CHECKING: &str = "while it checked the configuration";
/// In the reason when it took too long to answer one.
pub const NOT_CHECKED: &str = "the plugin did not check it within 5 s";
/// For everything.
const LIMIT: Duration = Duration::from_secs(5);
/// What is quoted of its output.
const QUOTED: usize = 300;

/// What a library said when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    pub minor: u32,
    pub description: Description,
}

/// The last line that a child wrote on its own: often the reason why it died.
#[derive(Clone, Default)]
struct LastWords(Arc<Mutex<String>>);

impl LastWords {
    fn lines(&self) -> Lines {
        let kept = self.0.clone();
        Arc::new(move |_, line| {
            line.chars()
                .take(QUOTED)
                .collect::<String>()
                .clone_into(&mut kept.lock().unwrap_or_else(PoisonError::into_inner));
        })
    }
    fn quoted(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { String::new() } else { format!("; it wrote: {}", crate::clamp::line(&said)) }
    }
}

/// Opens the file and reads what it says of itself, which must be what its manifest says.
pub(crate) async fn probe(
    runner: &Runner,
    limits: &Limits,
    path: &Path,
    manifest: &Manifest,
) -> Result<Probed, Refusal> {
    let words = LastWords::default();
    let started = timeout(LIMIT, Child::start(runner, &manifest.name, limits, words.lines())).await;
    let mut child = match started {
        Ok(Ok(child)) => child,
        Ok(Err(e)) => return Step::Open.refuses(format!("no process to try it in could be started: {e}")),
        Err(_) => return Step::Open.refuses("no process to try it in was ready within 5 s"),
    };
    let probed = match timeout(LIMIT, open(&mut child, path)).await {
        Ok(Ok(probed)) => probed?,
        Ok(Err(e)) => return Step::Open.refuses(died("while it was opened", e, &mut child, &words).await),
        Err(_) => {
            return Step::Open.refuses(format!("opening it did not end within 5 s{}", words.quoted()));
        }
    };
    let (described, listed) = (&probed.description, manifest);
    if (&described.name, &described.version) != (&listed.name, &listed.version) {
        return Step::Describe.refuses(format!(
            "it calls itself {:?} {:?} in describe(), but its manifest says {} {}",
            cut(&described.name),
            cut(&described.version),
            listed.name,
            listed.version
        ));
    }
    Ok(probed)
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// What it says of a configuration.
pub(crate) async fn validate(
    runner: &Runner,
    limits: &Limits,
    path: &Path,
    name: &str,
    config: &Value,
) -> Result<(), Vec<Problem>> {
    let words = LastWords::default();
    let whole = |why: String| vec![Problem::new("", why)];
    let started = timeout(LIMIT, Child::start(runner, name, limits, words.lines())).await;
    let mut child = match started {
        Ok(Ok(child)) => child,
        Ok(Err(e)) => return Err(whole(format!("no process to check it in could be started: {e}"))),
        Err(_) => return Err(whole("no process to check it in was ready within 5 s".to_owned())),
    };
    let ask = async {
        open(&mut child, path).await?.map_err(io::Error::other)?;
        child.send(Writer::new(Kind::Validate, 0).text(&config.to_string()).done()).await?;
        let body = child.expect(Kind::Problems).await?;
        let mut r = Reader(&body);
        let text = r.bytes()?;
        r.end()?;
        wire::problems(text).map_err(io::Error::other)
    };
    let answered = timeout(LIMIT, ask).await;
    match answered {
        Ok(Ok(problems)) if problems.is_empty() => Ok(()),
        Ok(Ok(problems)) => Err(problems.into_iter().take(100).collect()),
        Ok(Err(e)) => Err(whole(died(DIED_CHECKING, e, &mut child, &words).await)),
        Err(_) => Err(whole(format!("{NOT_CHECKED}{}", words.quoted()))),
    }
}

/// Opens the file in a child.
pub(crate) async fn open(child: &mut Child, path: &Path) -> io::Result<Result<Probed, Refusal>> {
    child.send(Writer::new(Kind::Open, 0).text(&path.to_string_lossy()).done()).await?;
    let body = child.expect(Kind::Opened).await?;
    let mut r = Reader(&body);
    let (step, minor, text) = (r.text()?, r.u32()?, r.bytes()?);
    r.end()?;
    if !step.is_empty() {
        let reason: String = String::from_utf8_lossy(text).chars().take(2000).collect();
        return Ok(Err(Refusal::new(Step::from_word(&step), crate::clamp::line(&reason))));
    }
    Ok(match native::describe(text) {
        Ok(description) => Ok(Probed { minor, description }),
        Err(why) => Step::Describe.refuses(why),
    })
}

/// What became of a child whose connection ended.
async fn died(when: &str, error: io::Error, child: &mut Child, words: &LastWords) -> String {
    let said = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            format!("its process {} {when}", child.process.bury().await)
        }
        _ => format!("{error} {when}"),
    };
    // Its last line may still be on its way.
    tokio::task::yield_now().await;
    said + &words.quoted()
}
