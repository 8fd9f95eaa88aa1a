//! An instance in a child process: handing over, hearing, and starting it again when it dies.
//!
//! Owns: sessions (one child each), back-off, quarantine, the end of a wedged child. Absent on purpose: what ends mean for
//! deliveries (the desk), the child's own side (`runner`). The child is treated as hostile: a frame it may not send ends it.

use crate::{
    Event, Limits, Runner, State,
    child::{Child, Hear, Lines, Process},
    desk::{Desk, Reply},
    frame::{self, Frame, Kind, Reader, Writer},
    left::Left,
    probe,
    upcalls::Upcalls,
};
use campanile_plugin::{
    HttpError, Level, OwnedDelivery, Sample, StartError,
    http::HttpErrorKind,
    wire::{Outcome, Status},
};
use futures_util::FutureExt;
use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::unix::OwnedWriteHalf,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Frames that may wait for a child to read them; more, and it has stopped reading.
const QUEUED: usize = 8192;
const OPEN_LIMIT: Duration = Duration::from_secs(5);
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// So many crashes within that time end it.
const CRASHES: usize = 5;
const CRASHES_WITHIN: Duration = Duration::from_mins(10);
/// Lines and samples in a second that are heard at once. Who sends more is heard more slowly, and with that runs more slowly:
/// a flood is not to take the host's time from others. A process that holds to its limits sends half of that at most.
const HEARD: u32 = 20_000;
/// Between "destroy" and the end of the child.
const LEAVE: Duration = Duration::from_secs(7);

/// What starts an instance, as often as it takes.
pub(crate) struct Launch {
    pub runner: Runner,
    pub path: PathBuf,
    pub limits: Limits,
    pub config: String,
    /// The first back-off; tests wait less.
    pub backoff: Duration,
}

impl Launch {
    pub fn new(runner: Runner, path: PathBuf, limits: Limits, config: String) -> Self {
        // For tests of crashes, which would wait for a minute else.
        Self { runner, path, limits, config, backoff: BACKOFF_FIRST }
    }
}

/// The engine of one instance.
pub(crate) struct Remote {
    desk: Arc<Desk>,
    launch: Launch,
    /// To the child of now, if there is one.
    now: Mutex<Option<Line>>,
    /// What the last child said when it had destroyed the instance.
    left: Mutex<Option<Left>>,
    /// True: end it for good.
    quit: watch::Sender<bool>,
}

#[derive(Clone)]
struct Line {
    to: mpsc::Sender<Vec<u8>>,
    pid: Option<u32>,
}

/// One child, from its start to its end.
struct Session {
    process: Process,
    line: Line,
    /// Ends with why nothing more is heard.
    heard: oneshot::Receiver<String>,
    gone: watch::Receiver<Option<Left>>,
}

impl Remote {
    /// Starts the first child; if that fails there is no instance.
    pub async fn start(desk: Arc<Desk>, launch: Launch) -> Result<Arc<Self>, StartError> {
        let (quit, _) = watch::channel(false);
        let remote = Arc::new(Self { desk, launch, now: Mutex::default(), left: Mutex::default(), quit });
        let session = remote.session().await.map_err(StartError::new)?;
        remote.set(Some(session.line.clone()));
        tokio::spawn(supervise(Arc::downgrade(&remote), session, remote.quit.subscribe()));
        Ok(remote)
    }

    fn set(&self, line: Option<Line>) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    fn line(&self) -> Option<Line> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn memory(&self) -> Option<u64> {
        let pid = self.line()?.pid?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
        Some(kib.parse::<u64>().ok()? * 1024)
    }

    /// What it had not let go of when it ended; `None`: it has not ended, or did not say.
    pub fn left(&self) -> Option<Left> {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pid(&self) -> Option<u32> {
        self.line()?.pid
    }

    fn send(&self, frame: Option<Vec<u8>>) -> bool {
        frame.is_some_and(|frame| self.line().is_some_and(|line| line.to.try_send(frame).is_ok()))
    }

    pub fn deliver(&self, items: &[(u64, OwnedDelivery)]) {
        let tokens = items.iter().map(|(token, _)| *token);
        let Some(frame) = frame::deliver(items) else {
            for token in tokens {
                let large = "the message does not fit into the megabyte that a plugin's process is told at once";
                self.desk.settle(token, Outcome::new(Status::Permanent, "too_large", large));
            }
            return;
        };
        // From here on the child may have it.
        for token in tokens.clone() {
            self.desk.begin(token);
        }
        if !self.send(Some(frame)) {
            for token in tokens {
                self.desk
                    .settle(token, Outcome::new(Status::Retry, "unavailable", "the plugin's process takes nothing"));
            }
        }
    }

    pub fn cancel(&self, token: u64) {
        self.send(Writer::new(Kind::Cancel, token).done());
    }

    pub fn health(&self, token: u64) {
        self.call(token, Writer::new(Kind::Health, token).done());
    }

    pub fn stop(&self, token: u64, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.call(token, Writer::new(Kind::Stop, token).u64(ms).done());
    }

    fn call(&self, token: u64, frame: Option<Vec<u8>>) {
        if !self.send(frame) {
            self.desk.settle(token, Outcome::new(Status::Retry, "unavailable", "the plugin's process takes nothing"));
        }
    }

    /// Ends the child, by word first.
    pub async fn destroy(&self) {
        let _ = self.quit.send(true);
        // The supervisor drops its line when it is done.
        let all = async {
            while self.line().is_some() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(LEAVE + Duration::from_secs(2), all).await;
    }

    /// A child with a started instance in it.
    async fn session(&self) -> Result<Session, String> {
        let desk = self.desk.clone();
        let lines: Lines = {
            let desk = Arc::downgrade(&desk);
            Arc::new(move |source, text| {
                if let Some(desk) = desk.upgrade() {
                    desk.line(Level::Warn, source, text, "", 0);
                }
            })
        };
        let launch = &self.launch;
        let began = Child::start(&launch.runner, &desk.who.plugin, &launch.limits, lines);
        let mut child = match timeout(OPEN_LIMIT, began).await {
            Ok(started) => started.map_err(|e| format!("its process did not start: {e}"))?,
            Err(_) => return Err("its process was not ready within 5 s".to_owned()),
        };
        match timeout(OPEN_LIMIT, probe::open(&mut child, &launch.path)).await {
            Ok(Ok(opened)) => drop(opened.map_err(|refusal| refusal.to_string())?),
            Ok(Err(_)) => return Err(format!("its process {} while it was opened", child.process.bury().await)),
            Err(_) => return Err("opening it did not end within 5 s".to_owned()),
        }
        let Child { reader, writer, process } = child;
        let (to, frames) = mpsc::channel(QUEUED);
        let line = Line { to, pid: process.id() };
        let (tell, heard) = oneshot::channel();
        let (gone_tell, gone) = watch::channel(None);
        tokio::spawn(write(writer, frames));
        let hearing = hear(reader, Arc::downgrade(&desk), line.to.downgrade(), gone_tell);
        tokio::spawn(async move { drop(tell.send(hearing.await)) });
        let mut session = Session { process, line, heard, gone };
        self.begin(&mut session).await?;
        Ok(session)
    }

    /// `start`, and one good health.
    async fn begin(&self, session: &mut Session) -> Result<(), String> {
        let (desk, launch) = (&self.desk, &self.launch);
        let (token, ended) = desk.call();
        let begin = Writer::new(Kind::Start, token)
            .u32(desk.host.level() as u32)
            .u32(u32::try_from(desk.places).unwrap_or(u32::MAX))
            .u32(u32::try_from(launch.limits.stack_kib * 1024).unwrap_or(u32::MAX))
            .text(&launch.config)
            .done();
        let begin = begin.ok_or("its configuration does not fit into a megabyte")?;
        let _ = session.line.to.send(begin).await;
        let limit = *launch.limits.start_timeout;
        let Some(outcome) = within(limit, ended, session).await else {
            desk.forget(token);
            return Err(format!("it did not start within {limit:?}"));
        };
        let outcome = outcome?;
        if outcome.status != Status::Ok {
            return Err(said(&outcome));
        }
        let (token, ended) = desk.call();
        let _ = session.line.to.send(Writer::new(Kind::Health, token).done().unwrap_or_default()).await;
        match within(HEALTH_LIMIT, ended, session).await {
            None => {
                desk.forget(token);
                Err("it started, but did not answer its health check within 5 s".to_owned())
            }
            Some(outcome) => match outcome?.into_health() {
                campanile_plugin::Health::Failing(why) => Err(format!("it started, but is not healthy: {why}")),
                _ => Ok(()),
            },
        }
    }
}

/// What an outcome says, for people.
pub(crate) fn said(outcome: &Outcome) -> String {
    match (outcome.code.as_str(), outcome.message.as_str()) {
        (code, "") => code.to_owned(),
        (_, message) => message.to_owned(),
    }
}

/// An end, the end of the child instead, or `None` when time is over.
async fn within(
    limit: Duration,
    ended: oneshot::Receiver<Outcome>,
    session: &mut Session,
) -> Option<Result<Outcome, String>> {
    let died = async {
        tokio::select! {
            why = &mut session.heard => why.unwrap_or_default(),
            () = session.process.ended() => String::new(),
        }
    };
    let either = async {
        tokio::select! {
            biased;
            outcome = ended => Ok(outcome.unwrap_or_else(|_| Outcome::new(Status::Internal, "lost", "it was lost"))),
            why = died => Err(why),
        }
    };
    Some(match timeout(limit, either).await.ok()? {
        Ok(outcome) => Ok(outcome),
        Err(why) if why.is_empty() => Err(format!("its process {}", session.process.bury().await)),
        Err(why) => Err(why),
    })
}

/// Sends what waits.
async fn write(mut to: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Hears the child until it says what it may not, or nothing more; why, or nothing if it just ended.
async fn hear(
    mut from: Hear,
    desk: Weak<Desk>,
    to: mpsc::WeakSender<Vec<u8>>,
    gone: watch::Sender<Option<Left>>,
) -> String {
    let mut pace = (Instant::now(), 0);
    loop {
        let frame = match from.next().await {
            Ok(Some(frame)) => frame,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return e.to_string(),
            Ok(None) | Err(_) => return String::new(),
        };
        if matches!(frame.kind, Kind::Log | Kind::Metric | Kind::Dropped) {
            pace = slowed(pace).await;
        }
        let Some(desk) = desk.upgrade() else { return String::new() };
        if frame.kind == Kind::Gone {
            // However badly it says it, it is gone.
            let _ = gone.send(Some(frame::read_gone(&frame.body).unwrap_or_default()));
            continue;
        }
        if let Err(bad) = obey(&desk, &to, &frame) {
            return bad.to_string();
        }
    }
}

/// One frame more, counted from the beginning of its second.
async fn slowed((began, heard): (Instant, u32)) -> (Instant, u32) {
    let second = Duration::from_secs(1).saturating_sub(began.elapsed());
    if heard >= HEARD && !second.is_zero() {
        tokio::time::sleep(second).await;
    }
    if heard >= HEARD || second.is_zero() { (Instant::now(), 1) } else { (began, heard + 1) }
}

fn obey(desk: &Arc<Desk>, to: &mpsc::WeakSender<Vec<u8>>, frame: &Frame) -> Result<(), frame::BadFrame> {
    let (token, body) = (frame.token, frame.body.as_slice());
    let reply = move |to: &mpsc::WeakSender<Vec<u8>>, frame: Option<Vec<u8>>| {
        if let (Some(to), Some(frame)) = (to.upgrade(), frame) {
            let _ = to.try_send(frame);
        }
    };
    match frame.kind {
        Kind::Complete => desk.complete(token, frame::read_outcome(body)?),
        Kind::Settle => desk.settle(token, frame::read_outcome(body)?),
        Kind::Ask => {
            let mut r = Reader(body);
            let about = r.u64()?;
            r.end()?;
            let to = to.clone();
            let answer = move |may| reply(&to, Writer::new(Kind::May, token).u32(u32::from(may)).done());
            desk.ask(about, Reply::new(answer));
        }
        Kind::Log => {
            let mut r = Reader(body);
            let (level, target, message, fields) = (Level::from_number(r.u32()?), r.text()?, r.text()?, r.text()?);
            r.end()?;
            desk.log(
                token,
                campanile_plugin::LogLine { level, target: &target, message: &message, fields_json: &fields },
            );
        }
        Kind::Metric => {
            let m = frame::read_metric(body)?;
            let labels: Vec<_> = m.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            desk.sample(Sample { kind: m.kind, name: &m.name, value: m.value, labels: &labels });
        }
        Kind::Dropped => {
            let (lines, samples) = frame::read_dropped(body)?;
            desk.dropped(lines, samples);
        }
        Kind::Http => {
            let to = to.clone();
            desk.request(frame::read_http(body)?, move |answer| {
                let large = || Err(HttpError::new(HttpErrorKind::TooLarge, "the reply does not fit into a frame"));
                reply(&to, frame::http_answer(token, &answer).or_else(|| frame::http_answer(token, &large())));
            });
        }
        _ => return Err(frame::BadFrame("a plugin's process may not send it")),
    }
    Ok(())
}

/// Watches over one child after the other.
async fn supervise(remote: Weak<Remote>, mut session: Session, mut quit: watch::Receiver<bool>) {
    let mut crashes: VecDeque<Instant> = VecDeque::new();
    loop {
        let Some(desk) = remote.upgrade().map(|r| r.desk.clone()) else { return };
        let why = tokio::select! {
            () = told(&mut quit) => {
                let left = leave(&mut session).await;
                desk.end_all("the plugin's instance has ended");
                return remote.upgrade().into_iter().for_each(|r| {
                    *r.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
                    r.set(None);
                });
            }
            why = &mut session.heard => match why.unwrap_or_default() {
                why if why.is_empty() => format!("its process {}", session.process.bury().await),
                why => format!("its process was killed: {why}"),
            },
            () = session.process.ended() => format!("its process {}", session.process.bury().await),
            () = desk.wedged.notified() => format!("its process was killed: {}", desk.life(None).detail.unwrap_or_default()),
        };
        session.process.kill();
        let Some(remote_now) = remote.upgrade() else { return desk.end_all(&why) };
        remote_now.set(None);
        // Its state first: who hears of a delivery's end may ask at once how the instance is.
        let mut pause = wait(&remote_now, &mut crashes, &why);
        drop(remote_now);
        desk.end_all(&why);
        // Again, until it runs or has had its chances.
        let mut why = why;
        session = loop {
            let Some(next_try) = pause else { return };
            tokio::select! {
                () = told(&mut quit) => return,
                () = tokio::time::sleep(next_try) => {}
            }
            let Some(again) = remote.upgrade() else { return };
            desk.enter(State::Starting, Some(why.clone()), None);
            match again.session().await {
                Ok(session) => {
                    again.set(Some(session.line.clone()));
                    desk.restarted();
                    desk.enter(State::Running, None, None);
                    desk.host.event(&desk.who, Event::Restarted);
                    // What was said of the one before is no word against this one.
                    let _ = desk.wedged.notified().now_or_never();
                    break session;
                }
                Err(next) => {
                    why = next;
                    pause = wait(&again, &mut crashes, &why);
                }
            }
        };
    }
}

/// Waits until it is true, or until nobody is left who could say so.
async fn told(what: &mut watch::Receiver<bool>) {
    let _ = what.wait_for(|told| *told).await;
}

/// How long until it is started again; `None`: never by itself.
fn wait(remote: &Remote, crashes: &mut VecDeque<Instant>, why: &str) -> Option<Duration> {
    let (desk, now) = (&remote.desk, Instant::now());
    crashes.push_back(now);
    while crashes.front().is_some_and(|at| now.duration_since(*at) > CRASHES_WITHIN) {
        crashes.pop_front();
    }
    if crashes.len() >= CRASHES {
        let why = format!("it ended {CRASHES} times in 10 minutes, the last time: {why}");
        desk.enter(State::Quarantined, Some(why.clone()), None);
        desk.host.event(&desk.who, Event::Quarantined { why });
        return None;
    }
    let doubled = remote.launch.backoff.saturating_mul(1 << (crashes.len() - 1).min(16));
    let again_in = doubled.min(BACKOFF_MAX);
    desk.enter(State::Backoff, Some(why.to_owned()), Some(desk.host.now() + again_in));
    desk.host.event(&desk.who, Event::Crashed { why: why.to_owned(), again_in });
    Some(again_in)
}

/// The child destroys its instance and says so; then, or when its time is over, it is killed.
async fn leave(session: &mut Session) -> Option<Left> {
    let _ = session.line.to.try_send(Writer::new(Kind::Destroy, 0).done().unwrap_or_default());
    let Session { process, gone, .. } = session;
    let left = async {
        tokio::select! {
            left = gone.wait_for(Option::is_some) => left.ok().and_then(|left| *left),
            () = process.ended() => None,
        }
    };
    let left = timeout(LEAVE, left).await.ok().flatten();
    process.kill();
    left
}
