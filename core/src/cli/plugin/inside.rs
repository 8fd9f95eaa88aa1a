//! This very command once more, in a process that a plugin may take down with it.
//!
//! What it finds comes back as JSON, a line for each thing; its own words on standard output are shown as they are.

use super::super::{
    exit::{Failure, Outcome},
    output::{remark, safe},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

/// Longer than any single thing that is tried.
const SILENCE: Duration = Duration::from_mins(1);
/// Begins a line that is ours.
const MARK: &str = "campanile\u{1}";
/// The last line: a plugin that calls `exit(0)` leaves without it.
const LAST: &str = "campanile\u{1}end";

/// How the process ended.
pub enum End {
    Well,
    /// In words that follow "the process".
    Died(String),
    Silent,
}

/// Killed when nobody waits for it any more.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it and takes what it tells. What it leaves behind when it dies lies in `folder`.
pub async fn run<T: DeserializeOwned>(
    args: impl Iterator<Item = OsString>,
    folder: &Path,
    order: String,
    mut take: impl FnMut(T),
) -> Outcome<End> {
    let failed = |e: io::Error| Failure::failed("no second process could be started").why(e);
    let mut command = Command::new("/proc/self/exe");
    command.args(args).env("TMPDIR", folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().map_err(failed)?);
    if let Some(mut input) = process.0.stdin.take() {
        let _ = input.write_all(order.as_bytes());
    }
    let (send, mut lines) = mpsc::unbounded_channel::<String>();
    if let Some(output) = process.0.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let _ = send.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    loop {
        match timeout(SILENCE, lines.recv()).await {
            Err(_) => return Ok(End::Silent),
            Ok(None) => break,
            // Whatever the plugin still does at its exit concerns nobody.
            Ok(Some(line)) if line == LAST => return Ok(End::Well),
            Ok(Some(line)) => match line.strip_prefix(MARK).map(serde_json::from_str) {
                Some(Ok(told)) => take(told),
                _ if line.is_empty() => {}
                _ => remark(safe(&line)),
            },
        }
    }
    // Its output is closed: it has ended, or is about to.
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await;
    let status = status.map_err(io::Error::other).and_then(|status| status).map_err(failed)?;
    Ok(End::Died(words(status)))
}

fn words(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("ended by itself with status {}", status.code().unwrap_or(-1));
    };
    let name = match signal {
        6 => " (abort)",
        7 => " (bus error)",
        8 => " (arithmetic fault)",
        11 => " (segmentation fault)",
        _ => "",
    };
    format!("died of signal {signal}{name}")
}

/// On the other side: what to do. Leaves no image behind when the plugin crashes.
pub fn order<T: DeserializeOwned>() -> Outcome<T> {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| Failure::failed("the order can't be read").why(e))?;
    serde_json::from_str(&text).map_err(|e| Failure::usage("the order can't be read").why(e))
}

/// On the other side.
pub fn tell(told: &impl Serialize) {
    line(&format!("{MARK}{}", serde_json::to_string(told).unwrap_or_default()));
}

/// On the other side: all is told.
pub fn end() {
    line(LAST);
}

/// A line of its own, whatever the plugin printed before.
fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "\n{text}").and_then(|()| out.flush());
}
