//! A host around one plugin, for its author: nothing is listed, nothing is stored, and nobody outside is called.
//!
//! Requests through the host are answered here, with 200 and `{}`; for a plugin with sockets of its own a receiver on this
//! machine answers the same. Answers can be held back, so that deliveries are under way for as long as somebody looks.
//! Absent on purpose: what is tried (`check`, `bench`).

use super::super::exit::{Failure, Outcome};
use axum::{Router, http::header::CONTENT_TYPE};
use campanile_loader::{Event, Host, Isolation, Limits, Line, Loader, Plugin, Refusal, Settings, Who};
use campanile_model::{Clock, Timestamp, clock::SystemClock};
use campanile_plugin::{BoxFuture, HttpError, HttpReply, Level, Span, http::HttpRequest};
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};

/// How long deliveries under way are waited for when an instance stops here.
const DRAIN: Duration = Duration::from_secs(3);
/// The wait before a process that died is started again here.
const BACKOFF: Duration = Duration::from_millis(50);

pub struct Room {
    /// Private copies of what is tried; gone when the room is.
    pub folder: PathBuf,
    loader: Loader,
    pub script: Arc<Script>,
    /// Of the receiver.
    pub url: String,
}

/// The host's answers.
pub struct Script {
    /// Instances, one for each request that they made through the host.
    asked_by: Mutex<Vec<Arc<str>>>,
    /// Requests so far, those to the receiver included.
    asked: watch::Sender<usize>,
    held: watch::Sender<bool>,
    /// The newest complaint: of a crash, or a line that the plugin wrote.
    complaint: Mutex<Option<String>>,
}

impl Room {
    pub async fn open() -> Outcome<Self> {
        let failed = |what| move |e: std::io::Error| Failure::failed(what).why(e);
        let folder = std::env::temp_dir().join(format!("campanile-{}", uuid::Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed("no temporary folder"))?;
        let mut settings = Settings::new(folder.clone(), folder.join("plugins.lock"), folder.clone());
        settings.backoff = BACKOFF;
        let script = Arc::new(Script {
            asked_by: Mutex::default(),
            asked: watch::Sender::new(0),
            held: watch::Sender::new(false),
            complaint: Mutex::default(),
        });
        let loader = Loader::new(settings, script.clone());
        let mut room = Self { folder, loader, script, url: String::new() };
        room.url = receiver(room.script.clone()).await.map_err(failed("no port for a receiver"))?;
        Ok(room)
    }

    /// Through every step of a load, up to the probe.
    pub async fn load(&self, file: &Path, isolation: Isolation) -> Result<Plugin, Refusal> {
        let limits = Limits { drain_timeout: Span(DRAIN), ..Limits::default() };
        self.loader.load_unlisted(file, isolation, limits).await
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Answers everything, as [`Script`] does. Ends with the command.
async fn receiver(script: Arc<Script>) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/in", listener.local_addr()?);
    let answer = move || {
        let answered = script.answered();
        async move {
            answered.await;
            ([(CONTENT_TYPE, "application/json")], "{}")
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok(url)
}

impl Script {
    /// One more request; ready when it may be answered.
    fn answered(&self) -> impl Future<Output = ()> + use<> {
        self.asked.send_modify(|n| *n += 1);
        let mut held = self.held.subscribe();
        async move { drop(held.wait_for(|held| !held).await) }
    }

    /// From now on no request is answered.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn release(&self) {
        self.held.send_replace(false);
    }

    pub fn requests(&self) -> usize {
        *self.asked.borrow()
    }

    pub fn requests_of(&self, instance: &str) -> usize {
        self.asked_by.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|who| ***who == *instance).count()
    }

    /// Ready when there were more than so many requests.
    pub async fn more_than(&self, n: usize) {
        let _ = self.asked.subscribe().wait_for(|asked| *asked > n).await;
    }

    /// The newest complaint, once.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn complain(&self, text: String) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

impl Host for Script {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }
    fn http(
        &self,
        who: &Who,
        _: &Arc<[String]>,
        _: &Arc<[String]>,
        _: HttpRequest,
    ) -> BoxFuture<'static, Result<HttpReply, HttpError>> {
        self.asked_by.lock().unwrap_or_else(PoisonError::into_inner).push(who.instance.clone());
        let answered = self.answered();
        Box::pin(async move {
            answered.await;
            Ok(HttpReply::new(200, "{}").with_header("content-type", "application/json"))
        })
    }
    fn level(&self) -> Level {
        Level::Info
    }
    fn log(&self, _: &Who, line: &Line) {
        if matches!(line.level, Level::Error | Level::Warn) {
            self.complain(format!("it wrote: {}", line.message));
        }
    }
    fn event(&self, _: &Who, event: Event) {
        match event {
            Event::Crashed { why, .. } | Event::Quarantined { why } => self.complain(why),
            Event::Wedged { .. } | Event::Restarted => {}
        }
    }
}
