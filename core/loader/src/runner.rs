//! The child's side: the process that a plugin's code runs in.
//!
//! Owns: giving up every power it doesn't need before anything of the plugin runs, then doing what frames say. It runs the
//! same [`Native`] as the host does in-process. Its parent is trusted; the code in it is not, but it has nothing to take.
#![allow(unsafe_code)] // Closing descriptors that nobody here owns.

use crate::{
    frame::{self, HEAD, Kind, Reader, Writer},
    left::{self, Left},
    logs,
    native::{Batch, Loaded, Native},
    rate::{Rate, Verdict},
    upcalls::{Answer, Done, Upcalls},
};
use campanile_plugin::{
    HttpError, Level, LogLine, Sample,
    http::{HttpErrorKind, HttpRequest},
    wire::{self, Outcome, Status},
};
use rustix::{
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, getpid, kill_process, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
    thread::set_no_new_privs,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Samples in a second that go to the host; of lines as many as it writes.
const SAMPLES: u32 = 10_000;
/// How long a plugin's thread waits for the host's word.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The child's whole life. Call it before anything else of the process: no thread, no runtime.
pub fn main() -> ExitCode {
    let result = alone().and_then(|socket| serve(&socket));
    match result {
        Ok(()) => end_now(),
        Err(e) => {
            let _ = writeln!(io::stderr(), "plugin runner: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returning would run the plugin's own clean-up at exit, and it may never end.
fn end_now() -> ExitCode {
    let _ = kill_process(getpid(), Signal::KILL);
    ExitCode::SUCCESS
}

/// The socket to the host, and nothing else left that could be used.
fn alone() -> io::Result<UnixStream> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = |resource, n| setrlimit(resource, Rlimit { current: Some(n), maximum: Some(n) });
    limit(Resource::Core, 0)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?;
    // A plugin that reads its standard input reads nothing.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && *fd != socket.as_raw_fd())
        .collect();
    for fd in open {
        // SAFETY: borrowed for one question; the folder that was just read is closed already and answers with an error.
        let there = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_ok();
        if there {
            // SAFETY: this is the only thread, and it has opened nothing but `socket`: what is left was inherited.
            unsafe { rustix::io::close(fd) };
        }
    }
    let socket = UnixStream::from(socket);
    if socket.peer_addr().is_err() {
        return Err(io::Error::other("it is started by the host, never by hand"));
    }
    Ok(socket)
}

fn serve(socket: &UnixStream) -> io::Result<()> {
    let mut from = io::BufReader::new(socket);
    let pipe = Pipe::new(socket.try_clone()?)?;
    let Some((Kind::Setup, _, body)) = next(&mut from)? else { return Ok(()) };
    let mut r = Reader(&body);
    let (major, _minor, _features, memory, files) = (r.u32()?, r.u32()?, r.text()?, r.u64()?, r.u64()?);
    if major != frame::MAJOR {
        return Err(io::Error::other("the host is of another version than this runner"));
    }
    let limit = |resource, n| setrlimit(resource, Rlimit { current: Some(n), maximum: Some(n) });
    limit(Resource::Nofile, files)?;
    limit(Resource::Data, memory)?;
    pipe.send(frame::hello());
    let mut loaded: Option<Arc<Loaded>> = None;
    let mut native: Option<Arc<Native>> = None;
    let mut before = BTreeSet::new();
    while let Some((kind, token, body)) = next(&mut from)? {
        let mut r = Reader(&body);
        match (kind, &loaded, &native) {
            (Kind::Open, None, _) => match open(Path::new(&r.text()?)) {
                Ok((library, text)) => {
                    pipe.send(Writer::new(Kind::Opened, 0).text("").u32(library.minor()).text(&text).done());
                    loaded = Some(Arc::new(library));
                }
                Err(refusal) => {
                    let word = refusal.step.word();
                    pipe.send(Writer::new(Kind::Opened, 0).text(word).u32(0).text(&refusal.reason).done());
                }
            },
            (Kind::Validate, Some(loaded), _) => {
                let text = match loaded.validate(&r.text()?) {
                    Ok(problems) => wire::problems_json(&problems),
                    Err(why) => wire::problems_json(&[campanile_plugin::Problem::new("", why)]),
                };
                pipe.send(Writer::new(Kind::Problems, 0).text(&text).done());
            }
            (Kind::Start, Some(loaded), None) => {
                let (level, places, stack, config) = (r.u32()?, r.u32()?, r.u32()?, r.text()?);
                pipe.level.store(level, Ordering::Release);
                let (places, stack, up) = (places as usize, stack as usize, pipe.clone());
                before = left::threads();
                match Native::start(loaded.clone(), up, "plugin", places, stack, config, token) {
                    Ok(started) => native = Some(Arc::new(started)),
                    Err(e) => {
                        let why = format!("no threads for it: {e}");
                        pipe.settle(token, Outcome::new(Status::Retry, "no_threads", why));
                    }
                }
            }
            (Kind::Deliver, _, Some(native)) => {
                let (items, handed) = (frame::read_deliver(&body)?, Instant::now());
                pipe.lock().due.extend(items.iter().map(|(token, d)| (*token, handed + d.timeout)));
                native.deliver(Batch { items, handed });
            }
            (Kind::Cancel, _, Some(native)) => {
                pipe.lock().cancelled.insert(token);
                native.cancel(token);
            }
            (Kind::Health, _, Some(native)) => native.health(token),
            (Kind::Stop, _, Some(native)) => native.stop(token, Duration::from_millis(r.u64()?)),
            (Kind::Destroy, ..) => match native.take() {
                None => pipe.send(frame::gone(Left::default())),
                Some(native) => {
                    let (ended, pipe, before) = (native.destroy(), pipe.clone(), before.clone());
                    // Apart, because a thread of the plugin that is to end may wait for a word of the host's first.
                    thread::spawn(move || {
                        let _ = ended.recv();
                        let threads = left::since(&before);
                        pipe.tell_dropped();
                        pipe.send(frame::gone(Left { threads, strays: native.strays() }));
                    });
                }
            },
            (Kind::May, ..) => {
                let may = r.u32()? != 0;
                if let Some(ask) = pipe.lock().asks.remove(&token) {
                    let _ = ask.try_send(may);
                }
            }
            (Kind::HttpAnswer, ..) => {
                let answer = frame::read_http_answer(&body)?;
                let done = pipe.lock().requests.remove(&token);
                if let Some(done) = done {
                    done(answer);
                }
            }
            _ => return Err(frame::BadFrame("it is out of turn").into()),
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<(Loaded, String), crate::Refusal> {
    let loaded = Loaded::open(path, false)?;
    let (text, _) = loaded.describe()?;
    Ok((loaded, text))
}

type Received = (Kind, u64, Vec<u8>);

/// `None`: the host is gone.
fn next(from: &mut impl Read) -> io::Result<Option<Received>> {
    let mut bytes = [0; HEAD];
    match from.read_exact(&mut bytes) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (kind, token, len) = frame::head(bytes)?;
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok(Some((kind, token, body)))
}

/// The plugin's way to the host.
struct Pipe {
    out: Mutex<UnixStream>,
    inner: Mutex<Inner>,
    level: AtomicU32,
    next: AtomicU64,
    timers: Timers,
    /// What the host would drop is not sent: reading it would cost the host more than us.
    lines: Rate,
    samples: Rate,
    me: Weak<Self>,
}

#[derive(Default)]
struct Inner {
    /// Deliveries here, and when their time is over.
    due: HashMap<u64, Instant>,
    cancelled: HashSet<u64>,
    asks: HashMap<u64, mpsc::SyncSender<bool>>,
    requests: HashMap<u64, Done<Answer>>,
}

impl Pipe {
    fn new(out: UnixStream) -> io::Result<Arc<Self>> {
        let timers = Timers::start()?;
        Ok(Arc::new_cyclic(|me| Self {
            out: Mutex::new(out),
            inner: Mutex::default(),
            level: AtomicU32::new(Level::Info as u32),
            next: AtomicU64::new(1),
            timers,
            lines: Rate::new(logs::RATE),
            samples: Rate::new(SAMPLES),
            me: me.clone(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is too large for a frame is not sent; a host that is gone ends us by itself.
    fn send(&self, frame: Option<Vec<u8>>) {
        if let Some(frame) = frame {
            let _ = self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame);
        }
    }

    /// Whether this one may go; if it is the first that may not, the host will hear how many there were.
    fn may(&self, rate: &Rate) -> bool {
        let verdict = rate.admit(Instant::now());
        if verdict == Verdict::DropAndTell {
            let me = self.me.clone();
            self.timers.add(
                Duration::from_secs(1),
                Box::new(move |()| {
                    if let Some(pipe) = me.upgrade() {
                        pipe.tell_dropped();
                    }
                }),
            );
        }
        verdict == Verdict::Take
    }

    fn tell_dropped(&self) {
        let (lines, samples) = (self.lines.dropped(), self.samples.dropped());
        if lines + samples > 0 {
            self.send(frame::dropped(lines, samples));
        }
    }

    fn end(&self, kind: Kind, token: u64, outcome: &Outcome) {
        let mut inner = self.lock();
        inner.due.remove(&token);
        inner.cancelled.remove(&token);
        drop(inner);
        let frame = frame::outcome(kind, token, outcome);
        self.send(frame.or_else(|| frame::outcome(kind, token, &frame::too_large())));
    }
}

impl Upcalls for Pipe {
    fn begin(&self, token: u64) -> bool {
        let inner = self.lock();
        let ours = inner.due.get(&token).is_some_and(|due| Instant::now() < *due) && !inner.cancelled.contains(&token);
        drop(inner);
        if !ours {
            self.end(Kind::Complete, token, &Outcome::new(Status::Cancelled, "cancelled", "it was not begun"));
        }
        ours
    }
    fn complete(&self, token: u64, outcome: Outcome) {
        self.end(Kind::Complete, token, &outcome);
    }
    fn settle(&self, token: u64, outcome: Outcome) {
        self.end(Kind::Settle, token, &outcome);
    }
    fn is_cancelled(&self, token: u64) -> bool {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = mpsc::sync_channel(1);
        let mut inner = self.lock();
        if inner.cancelled.contains(&token) {
            return true;
        }
        inner.asks.insert(id, send);
        drop(inner);
        self.send(Writer::new(Kind::Ask, id).u64(token).done());
        let may = receive.recv_timeout(ASK_LIMIT).unwrap_or(false);
        self.lock().asks.remove(&id);
        !may
    }
    fn log_enabled(&self, level: Level, _: &str) -> bool {
        level as u32 <= self.level.load(Ordering::Acquire)
    }
    fn log(&self, token: u64, line: LogLine<'_>) {
        if self.log_enabled(line.level, line.target) && self.may(&self.lines) {
            self.send(frame::log(token, line.level, line.target, line.message, line.fields_json));
        }
    }
    fn metric(&self, sample: Sample<'_>) {
        if self.may(&self.samples) {
            self.send(frame::metric(sample.kind, sample.name, sample.value, sample.labels));
        }
    }
    fn http(&self, request: HttpRequest, done: Done<Answer>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = frame::http(id, &request) else {
            return done(Err(HttpError::new(HttpErrorKind::Invalid, "the request does not fit into a frame")));
        };
        self.lock().requests.insert(id, done);
        self.send(Some(frame));
    }
    fn timer(&self, time: Duration, done: Done<()>) {
        self.timers.add(time, done);
    }
}

/// One thread that waits for the next of many.
struct Timers(Arc<(Mutex<Waiting>, Condvar)>);

type Waiting = BTreeMap<(Instant, u64), Done<()>>;

impl Timers {
    fn start() -> io::Result<Self> {
        let shared: Arc<(Mutex<Waiting>, Condvar)> = Arc::default();
        let mine = shared.clone();
        let run = move || {
            let (waiting, changed) = &*mine;
            let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let now = Instant::now();
                let later = all.split_off(&(now, u64::MAX));
                let due = std::mem::replace(&mut *all, later);
                let next = all.first_key_value().map(|((at, _), _)| at.saturating_duration_since(now));
                if !due.is_empty() {
                    drop(all);
                    for done in due.into_values() {
                        done(());
                    }
                    all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let wait = next.unwrap_or(Duration::from_hours(1));
                all = changed.wait_timeout(all, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        thread::Builder::new().name("timers".into()).stack_size(128 * 1024).spawn(run)?;
        Ok(Self(shared))
    }

    fn add(&self, time: Duration, done: Done<()>) {
        static NTH: AtomicU64 = AtomicU64::new(0);
        // Far beyond the life of any process, and within what an instant can be.
        let at = Instant::now() + time.min(Duration::from_hours(100 * 365 * 24));
        let (waiting, changed) = &*self.0;
        let key = (at, NTH.fetch_add(1, Ordering::Relaxed));
        waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(key, done);
        changed.notify_one();
    }
}
