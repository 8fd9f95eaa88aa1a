//! A child process that a plugin's code runs in: how it is started, heard, and ended.
//!
//! Owns: the process, its socket, its standard output and error. Absent on purpose: what its frames mean (`probe`,
//! `process`).
#![allow(unsafe_code)] // One registration with tokio; it says why it is sound.

use crate::{
    Limits,
    frame::{self, Frame, HEAD, Kind, Reader},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixStream as StdStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, mpsc},
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    sync::oneshot,
};

/// What the child may inherit from our environment: where it is and how it speaks, and no secret.
const ENVIRONMENT: [&str; 6] = ["TZ", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_BACKTRACE"];
/// Longest line of standard output or error; a longer one is cut into several.
const LINE_MAX: usize = 8 * 1024;
/// Between the end of its socket and its own end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Runner {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

impl Runner {
    /// This very binary, also after the file was replaced, with its hidden command.
    pub fn this() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["plugin-runner".into()] }
    }
}

/// Takes the lines that a child writes on its own.
pub(crate) type Lines = Arc<dyn Fn(&'static str, &str) + Send + Sync>;

/// A running child.
pub(crate) struct Child {
    pub reader: Hear,
    pub writer: OwnedWriteHalf,
    pub process: Process,
}

/// The process itself. Dropping it kills it.
pub(crate) struct Process {
    child: Option<std::process::Child>,
    ended: AsyncFd<OwnedFd>,
}

/// Reads frames, as from an enemy.
pub(crate) struct Hear(BufReader<OwnedReadHalf>);

type Job = (Command, oneshot::Sender<io::Result<std::process::Child>>);

/// Starts processes from one thread that lives as long as we do: "die with your parent" means the thread that started
/// them.
fn spawner() -> &'static mpsc::Sender<Job> {
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (send, jobs) = mpsc::channel::<Job>();
        let run = move || {
            for (mut command, reply) in jobs {
                let _ = reply.send(command.spawn());
            }
        };
        // Without it each request is answered by the end of its channel.
        drop(thread::Builder::new().name("plugin-spawner".into()).spawn(run));
        send
    });
    &SPAWNER
}

impl Child {
    /// Started, limited, and greeted.
    pub async fn start(runner: &Runner, name: &str, limits: &Limits, lines: Lines) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        let mut command = Command::new(&runner.program);
        command.args(&runner.args).arg(name).arg0("campanile-plugin").env_clear().current_dir("/");
        command.envs(ENVIRONMENT.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        // Its one descriptor, where it finds it without being told.
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (reply, spawned) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        spawner().send((command, reply)).map_err(|_| gone())?;
        let mut child = spawned.await.map_err(|_| gone())??;
        let pid = Pid::from_child(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from).and_then(|fd| {
            // SAFETY: the descriptor is owned by what is made here, and closed by nobody else.
            unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
        });
        let ended = ended.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let process = Process { child: Some(child), ended };
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        if let Some(out) = stdout {
            tokio::spawn(listen("stdout", pipe::Receiver::from_owned_fd(out.into())?, lines.clone()));
        }
        if let Some(err) = stderr {
            tokio::spawn(listen("stderr", pipe::Receiver::from_owned_fd(err.into())?, lines));
        }
        let mut child = Self { reader: Hear(BufReader::new(reader)), writer, process };
        child.send(frame::setup(limits.memory_mib * 1024 * 1024, limits.files)).await?;
        let hello = child.expect(Kind::Hello).await?;
        let mut hello = Reader(&hello);
        let (major, _minor, _features) = (hello.u32()?, hello.u32()?, hello.text()?);
        if major != frame::MAJOR {
            return Err(io::Error::other("the plugin runner is of another version than this host"));
        }
        Ok(child)
    }

    /// `None` is a frame that grew too large.
    pub async fn send(&mut self, frame: Option<Vec<u8>>) -> io::Result<()> {
        let frame = frame.ok_or_else(|| io::Error::other("more than fits into a frame"))?;
        self.writer.write_all(&frame).await
    }

    /// The next frame, which must be of that kind. Lines of its log may come between.
    pub async fn expect(&mut self, kind: Kind) -> io::Result<Vec<u8>> {
        loop {
            match self.reader.next().await? {
                Some(frame) if frame.kind == kind => return Ok(frame.body),
                Some(frame) if frame.kind == Kind::Log => {}
                Some(_) => return Err(frame::BadFrame("it is out of turn").into()),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

impl Hear {
    /// `None`: it closed the socket.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut bytes = [0; HEAD];
        match self.0.read_exact(&mut bytes).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let (kind, token, len) = frame::head(bytes)?;
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await?;
        Ok(Some(Frame { kind, token, body }))
    }
}

impl Process {
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(std::process::Child::id)
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&self) {
        let _ = self.ended.readable().await;
    }

    /// Its end, after a moment in which it may come by itself; in words.
    pub async fn bury(&mut self) -> String {
        let by_itself = tokio::time::timeout(LAST_MOMENT, self.ended()).await.is_ok();
        let status = self.kill();
        match status {
            Some(status) if by_itself => told(status),
            _ => "closed its connection and had to be killed".to_owned(),
        }
    }

    /// Ends it now.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        let _ = child.kill();
        // Killed, so this returns as soon as the system has taken it apart.
        child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A process's end, in words.
fn told(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("ended by itself with status {}", status.code().unwrap_or(-1));
    };
    let name = match signal {
        4 => " (illegal instruction)",
        6 => " (abort)",
        7 => " (bus error)",
        8 => " (arithmetic fault)",
        9 => " (killed)",
        11 => " (segmentation fault)",
        31 => " (forbidden system call)",
        _ => "",
    };
    format!("died of signal {signal}{name}")
}

/// Line by line, each of a bearable length.
async fn listen(which: &'static str, mut from: pipe::Receiver, lines: Lines) {
    let (mut line, mut chunk) = (Vec::new(), vec![0; LINE_MAX]);
    let tell = |line: &mut Vec<u8>| {
        if !line.is_empty() {
            lines(which, &String::from_utf8_lossy(line));
            line.clear();
        }
    };
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        for byte in &chunk[..n] {
            match byte {
                b'\n' => tell(&mut line),
                byte => line.push(*byte),
            }
            if line.len() == LINE_MAX {
                tell(&mut line);
            }
        }
    }
    tell(&mut line);
}
