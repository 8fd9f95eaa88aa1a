//! `campanile serve`: configuration → host → signals → drain.

use super::{
    Global,
    exit::{Code, Failure, Outcome, chain},
    output::{Output, Tone, remark},
    settings,
};
use crate::{
    config::{Flag, Loaded},
    dev::{folder, record, record::Record, seed},
    host::Host,
    http::admin::link,
    observe,
};
use campanile_model::ports::{Actor, QueueError, Role, StoreError};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Needs nothing else: temporary data, caught mail, demo users.
    #[arg(long)]
    dev: bool,
    /// Address and port, over `server.listen`; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

/// The process ends within 30 s of SIGTERM; the last two belong to what runs after the host.
const STOP_LIMIT: Duration = Duration::from_secs(28);

pub async fn run(args: Args, global: &Global, out: Output) -> Outcome {
    let started = Instant::now();
    // Before anything else, so that a signal during start is never lost.
    let mut signals = Signals::new()?;
    let dev = Dev::prepare(&args)?;
    let loaded = settings::load(global, &flags(&args, &dev))?;
    observe::log::init(&loaded.config.log).map_err(|e| Failure::failed("the log can't be set up").why(chain(&e)))?;
    let result = serve(args.dev, loaded, global, &dev, &mut signals, started, out).await;
    dev.clean();
    result
}

async fn serve(
    dev_mode: bool,
    loaded: Loaded,
    global: &Global,
    dev: &Dev,
    signals: &mut Signals,
    started: Instant,
    out: Output,
) -> Outcome {
    let config = loaded.config.clone();
    let host = tokio::select! {
        host = Host::start(loaded, dev_mode) => host.map_err(|e| start_failure(&e, &config.server.listen))?,
        () = signals.next() => return Err(Failure::failed("stopped by a signal before the start was complete")),
    };
    let address = host.services.address;
    let key = config.auth.api_key.expose().to_owned();
    let mut file = None;
    let mut once = None;
    if dev_mode {
        let server = format!("http://{}", reachable(address));
        once = first_link(&host).await;
        file = announce(&server, &key, &config.server.data_dir, global.config.as_deref());
        if let Err(e) = seed::seed(&server, &key).await {
            tracing::warn!("The demo users were not set up: {e:#}");
        }
    }
    out.answer(format!("Listening on http://{address}"));
    if dev_mode {
        let temporary = dev.data_dir.as_deref() == Some(&config.server.data_dir);
        banner(out, address, &key, once.as_deref(), temporary, started.elapsed());
    }

    signals.next().await;
    tracing::info!("Stopping: finishing what is under way");
    let drained = tokio::select! {
        drained = tokio::time::timeout(STOP_LIMIT, host.stop()) => drained.is_ok(),
        () = signals.next() => {
            if let Some((path, record)) = &file {
                record.remove(path);
            }
            dev.clean();
            remark("stopped at once by a second signal; what was under way is taken up again at the next start");
            end_now()
        }
    };
    if let Some((path, record)) = file {
        record.remove(&path);
    }
    if !drained {
        tracing::warn!("The drain took longer than {STOP_LIMIT:?}; the rest is taken up again at the next start");
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the second signal ends the process at once, whatever still runs")]
fn end_now() -> ! {
    std::process::exit(Code::Failed as i32)
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> Outcome<Self> {
        let listen = |kind| signal(kind).map_err(|e| Failure::failed("can't listen for signals").why(e));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }
    async fn next(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// What `--dev` brings along.
struct Dev {
    data_dir: Option<PathBuf>,
    key: Option<String>,
}

impl Dev {
    fn prepare(args: &Args) -> Outcome<Self> {
        if !args.dev {
            return Ok(Self { data_dir: None, key: None });
        }
        // A dev server that was killed left its folder behind.
        if let Some(path) = record::own_path()
            && let Ok(Some(old)) = Record::read(&path)
            && !old.is_alive()
        {
            folder::remove(&old.data_dir);
        }
        let data_dir = folder::create().map_err(|e| Failure::failed("no temporary data folder").why(chain(&e)))?;
        let key = format!("dev_{}", uuid::Uuid::new_v4().simple());
        Ok(Self { data_dir: Some(data_dir), key: Some(key) })
    }
    fn clean(&self) {
        if let Some(path) = &self.data_dir {
            folder::remove(path);
        }
    }
}

fn flags(args: &Args, dev: &Dev) -> Vec<Flag> {
    let mut flags = Vec::new();
    let weak = |key, value: String| Flag { key, value, source: "--dev", weak: true };
    flags.extend(dev.data_dir.iter().map(|d| weak("server.data_dir", d.display().to_string())));
    flags.extend(dev.key.iter().map(|k| weak("auth.api_key", k.clone())));
    let listen = args.listen.iter().cloned();
    flags.extend(listen.map(|value| Flag { key: "server.listen", value, source: "--listen", weak: false }));
    flags
}

fn start_failure(error: &anyhow::Error, listen: &str) -> Failure {
    let io = error.chain().find_map(|e| e.downcast_ref::<std::io::Error>());
    let store = error.chain().find_map(|e| e.downcast_ref::<StoreError>());
    if let Some(QueueError::Unusable(why)) = error.chain().find_map(|e| e.downcast_ref::<QueueError>()) {
        return Failure::new(Code::Unhealthy, "the work queue can't be used").why(why);
    }
    match (io.map(std::io::Error::kind), store) {
        (_, Some(StoreError::Unavailable(_))) => {
            Failure::new(Code::Unhealthy, "the database can't be used").why(chain(error)).next("campanile doctor")
        }
        (Some(std::io::ErrorKind::AddrInUse), _) => Failure::failed(format!("{listen} is in use"))
            .why("another process listens there, perhaps another Campanile")
            .next("campanile serve --listen 127.0.0.1:0   (picks a free port)"),
        (Some(std::io::ErrorKind::PermissionDenied), _) => {
            Failure::failed(format!("may not start on {listen}")).why(chain(error)).next("campanile doctor")
        }
        _ => Failure::failed("the server did not start").why(chain(error)).next("campanile doctor"),
    }
}

/// Writes `dev.json`; without one the client commands need `--server` and `--key`, so its absence is told of.
fn announce(server: &str, key: &str, data_dir: &Path, config: Option<&Path>) -> Option<(PathBuf, Record)> {
    let path = record::own_path()?;
    let record = Record {
        server: server.to_owned(),
        key: key.to_owned(),
        data_dir: std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned()),
        config: config.and_then(|c| std::path::absolute(c).ok()),
        pid: std::process::id(),
    };
    match record.write(&path) {
        Ok(()) => Some((path, record)),
        Err(e) => {
            tracing::warn!("Client commands will need --server and --key: {e:#}");
            None
        }
    }
}

/// An address that this machine can call: `0.0.0.0` listens everywhere but is nowhere.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => ([127, 0, 0, 1], a.port()).into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => ([0, 0, 0, 0, 0, 0, 0, 1], a.port()).into(),
        other => other,
    }
}

/// `--dev` signs its one admin in by a link.
async fn first_link(host: &Host) -> Option<String> {
    let s = &host.services;
    if !s.config.admin.enabled {
        return None;
    }
    let actor = Actor { who: "system".to_owned(), ..Actor::default() };
    let made = link::make(s.store.as_ref(), "", "dev", Role::Owner, *s.config.admin.link_ttl, &actor).await;
    match made {
        Ok((_, link)) => Some(link),
        Err(e) => {
            tracing::warn!(error = &e as &dyn std::error::Error, "No link for the dashboard was made");
            None
        }
    }
}

fn banner(out: Output, address: SocketAddr, key: &str, once: Option<&str>, temporary: bool, took: Duration) {
    let host = match reachable(address) {
        a if a.ip().is_loopback() => format!("http://localhost:{}", a.port()),
        a => format!("http://{a}"),
    };
    let me = program();
    let data = if temporary { "data is temporary" } else { "data is kept" };
    let head = format!("campanile {}  dev mode, {data}", env!("CARGO_PKG_VERSION"));
    out.line("");
    out.line(format!("  {}  ready in {:.1} s", out.paint(Tone::Strong, &format!("{head:<52}")), took.as_secs_f32()));
    let note = |text: &str| out.paint(Tone::Dim, text);
    let (page, said) = once.map_or(("/admin", ""), |once| (once, "signs you in once"));
    out.line(format!("  Dashboard    {host}{page}  {}", note(said)));
    out.line(format!("  Demo inbox   {:<40} {}", format!("{host}/demo"), note("two users, side by side")));
    out.line(format!("  Caught mail  {host}/dev/mail"));
    out.line(format!("  Try          {me} send --to ada --title \"Hello\" --wait"));
    out.line(format!("  Or           curl {host}/api/v1/notifications -H 'Authorization: Bearer {key}' \\"));
    out.line("                 -H 'Content-Type: application/json' -d '{\"user_id\":\"ada\",\"title\":\"Hello\"}'");
    out.line("");
}

/// How to call this binary again: by name if it is on the path, else as it lies.
fn program() -> String {
    let Ok(exe) = std::env::current_exe() else { return "campanile".to_owned() };
    let on_path = std::env::var_os("PATH").is_some_and(|p| {
        std::env::split_paths(&p).any(|dir| dir.join("campanile").canonicalize().ok() == exe.canonicalize().ok())
    });
    if on_path {
        return "campanile".to_owned();
    }
    let here = std::env::current_dir().ok();
    here.and_then(|dir| exe.strip_prefix(dir).ok().map(Path::to_owned)).unwrap_or(exe).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_address_is_called_by_loopback() {
        assert_eq!(reachable("0.0.0.0:8000".parse().unwrap()).to_string(), "127.0.0.1:8000");
        assert_eq!(reachable("[::]:8000".parse().unwrap()).to_string(), "[::1]:8000");
        assert_eq!(reachable("10.0.0.5:80".parse().unwrap()).to_string(), "10.0.0.5:80");
    }

    #[test]
    fn a_start_that_fails_is_told_apart() {
        let busy = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        let f = start_failure(&busy, "127.0.0.1:8000");
        assert_eq!((f.code, f.what.as_str()), (Code::Failed, "127.0.0.1:8000 is in use"));
        let down = anyhow::Error::from(StoreError::Unavailable("no such host".into()));
        assert_eq!(start_failure(&down, "x").code, Code::Unhealthy);
        assert_eq!(start_failure(&anyhow::anyhow!("else"), "x").code, Code::Failed);
    }
}
