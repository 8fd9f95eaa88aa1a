//! One stream per open page: rendered parts of it, only those that changed, every two seconds or as this browser wishes.
//!
//! Owns: the rhythm, what was sent, when a stream ends. A page says in a [`Live`] what it is made of and stands in
//! [`PAGES`]. Every connection begins with a full snapshot, so nothing depends on what was sent before. A stream ends with
//! its session.

use super::{
    Routes, Signed, audit, badges, channels, connections, dead, gate::LOOK, keys, looks, notification, notifications,
    overview, queues, send_test, users,
};
use crate::{
    http::{REQUEST_ID, request_id},
    services::Services,
};
use async_trait::async_trait;
use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use campanile_admin_ui::{pages::Badge, pieces::Part};
use campanile_model::Timestamp;
use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// A page that hears nothing for longer says that it is lost: it is told so often that it is not.
const BEAT_S: u8 = 2;
/// Sessions are looked at again after so many frames: signed out means the stream ends.
const RECHECK: u32 = 8;

/// A page that changes by itself.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// Draws the parts as they are now. Called for every frame; what did not change is not sent.
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn);
}

/// A page from the query of its address.
type Open = fn(&Query) -> Box<dyn Live>;

/// `?page=` and what it opens.
const PAGES: &[(&str, Open)] = &[
    ("overview", overview::live),
    ("connections", connections::live),
    ("connection", connections::live_one),
    ("keys", keys::live),
    ("audit", audit::live),
    ("user", users::live),
    ("notifications", notifications::live),
    ("notification", notification::live),
    ("queues", queues::live),
    ("queue", queues::live_one),
    ("channels", channels::live),
    ("channel", channels::live_one),
    ("dead", dead::live),
    ("send-test", send_test::live),
];

pub fn routes() -> Routes {
    Routes::new().get("/admin/live", LOOK, stream)
}

/// A query's parameters. The first of a name counts; unknown ones are nobody's business.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }
    /// Empty when it is not there.
    pub fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }
}

/// The parts of one frame.
#[derive(Default)]
pub struct Drawn {
    parts: Vec<(&'static str, String)>,
    /// Since when a part can't be drawn, and the request that saw it first.
    failing: HashMap<&'static str, (Timestamp, String)>,
    settled: bool,
    /// Seconds between two looks, as the page says it.
    pub every: u8,
}

impl Drawn {
    /// A part and the id of its element.
    pub fn put(&mut self, id: &'static str, part: &impl fmt::Display) {
        let mut html = String::new();
        if write!(html, "{part}").is_ok() {
            self.parts.push((id, html));
        }
    }

    /// A part that may have failed: the card keeps saying since when.
    pub fn part<T>(&mut self, id: &'static str, part: Part<T>)
    where
        Part<T>: fmt::Display,
    {
        match part {
            Part::Well(_) => {
                self.failing.remove(id);
                self.put(id, &part);
            }
            Part::Failed(mut failure) => {
                let first = self.failing.entry(id).or_insert((failure.since, failure.request_id.clone()));
                (failure.since, failure.request_id) = first.clone();
                self.put(id, &Part::<T>::Failed(failure));
            }
        }
    }

    /// Nothing of this page will change any more, unless somebody acts: it need not be drawn again.
    pub fn settled(&mut self) {
        self.settled = true;
    }
}

async fn stream(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let rhythm = Rhythm::of(looks(&headers).live_every());
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let Some((_, open)) = PAGES.iter().find(|(name, _)| *name == query.get("page")) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let page = open(&query);
    let (tx, rx) = mpsc::channel::<Bytes>(2);
    let (services, id) = (s.clone(), request_id());
    s.tasks.spawn(REQUEST_ID.scope(id, async move {
        tokio::select! {
            () = services.draining.cancelled() => {}
            () = tell(&services, &signed, page.as_ref(), rhythm, tx) => {}
        }
    }));
    let body = futures_util::stream::unfold(rx, |mut rx| async move {
        rx.recv().await.map(|chunk| (Ok::<_, std::convert::Infallible>(chunk), rx))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = (headers, Body::from_stream(body)).into_response();
    // A proxy that gathers answers would hold the page still.
    response.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    response
}

/// How often a stream says that it is there, and after how many of these beats it looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rhythm {
    seconds: u8,
    beat: Duration,
    beats: u8,
}

impl Rhythm {
    fn of(seconds: u8) -> Self {
        let beats = seconds.div_ceil(BEAT_S).max(1);
        Self { seconds, beat: Duration::from_secs(seconds.into()) / u32::from(beats), beats }
    }
}

/// Ends when the browser is gone or the session has ended.
async fn tell(s: &Arc<Services>, signed: &Signed, page: &dyn Live, rhythm: Rhythm, tx: mpsc::Sender<Bytes>) {
    let mut sent = Changed::default();
    let mut drawn = Drawn { every: rhythm.seconds, ..Drawn::default() };
    let mut frames = 0u32;
    // Beats until the next look.
    let mut rest = 0u8;
    loop {
        // Listens from before the look, so that an act during it is seen by the next one.
        let acted = s.console.acted.notified();
        tokio::pin!(acted);
        acted.as_mut().enable();
        if rest == 0 {
            rest = rhythm.beats;
            if !drawn.settled {
                page.draw(s, signed, &mut drawn).await;
            }
            let (dead, unwell) = badges(s, &*s.console.facts.get(s).await);
            drawn.put(Badge::DEAD, &Badge::dead(dead));
            drawn.put(Badge::UNWELL, &Badge::unwell(unwell));
        }
        let frame = frame(drawn.parts.drain(..).filter(|(id, html)| sent.differs(id, html)));
        if tx.send(frame).await.is_err() {
            return;
        }
        frames += 1;
        if frames.is_multiple_of(RECHECK) {
            // A database that is away ends no session.
            if let Ok(None) = s.store.admin_session(signed.hash, *s.config.admin.session_idle).await {
                return;
            }
        }
        tokio::select! {
            () = tx.closed() => return,
            () = tokio::time::sleep(rhythm.beat) => rest -= 1,
            () = acted => {
                drawn.settled = false;
                rest = 0;
            }
        }
    }
}

/// One frame: a beat, so that the page knows that it is not forgotten, and the parts.
fn frame(parts: impl Iterator<Item = (&'static str, String)>) -> Bytes {
    let mut body = String::new();
    for (id, html) in parts {
        let _ = write!(body, "<hx-partial hx-target=\"#{id}\" hx-swap=\"outerMorph\">{html}</hx-partial>");
    }
    let mut frame = String::from("event: beat\ndata: 1\n\n");
    if !body.is_empty() {
        for line in body.lines() {
            let _ = writeln!(frame, "data: {line}");
        }
        frame.push('\n');
    }
    Bytes::from(frame)
}

/// What this stream has sent, by part.
#[derive(Default)]
struct Changed {
    hasher: RandomState,
    seen: HashMap<&'static str, u64>,
}

impl Changed {
    fn differs(&mut self, id: &'static str, html: &str) -> bool {
        let hash = self.hasher.hash_one(html);
        self.seen.insert(id, hash) != Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_admin_ui::pieces::{Empty, Failure};

    #[test]
    fn only_what_changed_is_sent_and_lines_stay_lines() {
        let mut sent = Changed::default();
        assert!(sent.differs("a", "1") && !sent.differs("a", "1") && sent.differs("a", "2") && sent.differs("b", "2"));
        let text = frame([("rows", "<p>\none</p>".to_owned())].into_iter());
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.ends_with("hx-swap=\"outerMorph\"><p>\ndata: one</p></hx-partial>\n\n"), "{text}");
        assert_eq!(frame(std::iter::empty()), "event: beat\ndata: 1\n\n");
    }

    #[test]
    fn beats_go_on_between_two_looks() {
        for (seconds, beats, beat_ms) in [(1, 1, 1_000), (2, 1, 2_000), (5, 3, 1_666), (10, 5, 2_000), (30, 15, 2_000)]
        {
            let rhythm = Rhythm::of(seconds);
            assert_eq!((rhythm.beats, rhythm.beat.as_millis()), (beats, beat_ms), "every {seconds} s");
        }
    }

    #[test]
    fn a_card_keeps_saying_since_when() {
        let mut drawn = Drawn::default();
        let failed = |s: i64| {
            let since = Timestamp::from_timestamp(s, 0).unwrap();
            let (why, request_id) = ("no".to_owned(), format!("r{s}"));
            Part::<Empty>::Failed(Failure { id: "rows", what: "The list", why, since, request_id })
        };
        drawn.part("rows", failed(100));
        drawn.part("rows", failed(200));
        assert_eq!(drawn.parts[0], drawn.parts[1]);
        drawn.part("rows", Part::Well(Empty::default()));
        drawn.part("rows", failed(300));
        assert_ne!(drawn.parts[0], drawn.parts[3]);
    }
}
