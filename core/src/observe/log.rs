//! Sets up tracing: standard error, text or JSON, one line per event whatever the event holds.
//!
//! Spans carry request and delivery ids. Absent on purpose: files and rotation (the process manager's).

use crate::config::log::{Log, LogFormat};
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

/// Once per process; the filter was checked with the configuration.
pub fn init(config: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(with_quiet(&config.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(fmt::layer().with_writer(OneLine).with_ansi(colour).with_target(false)).try_init()?;
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(layer.with_writer(OneLine)).try_init()?;
        }
    }
    Ok(())
}

/// lapin tells of every lost connection several times as an error; `amqp` says it once. Naming it brings its lines back.
fn with_quiet(level: &str) -> String {
    if level.contains("lapin") { level.to_owned() } else { format!("{level},lapin=off") }
}

/// Escapes line breaks inside an event, so that no value can write a log line of its own.
struct OneLine;

struct Line(io::Stderr);

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(io::stderr())
    }
}

impl Write for Line {
    /// The formatter hands over one whole event per call, ended by a line break.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(&escape(event)).map(|()| event.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(event: &[u8]) -> Vec<u8> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let mut out = Vec::with_capacity(event.len() + 8);
    for &byte in body {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.push(other),
        }
    }
    if body.len() < event.len() {
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(escape(b"plain\n"), b"plain\n");
        assert_eq!(escape(b"user a\r\n2026 INFO forged\n"), b"user a\\r\\n2026 INFO forged\n");
        assert_eq!(escape(b"no end"), b"no end");
    }
}
