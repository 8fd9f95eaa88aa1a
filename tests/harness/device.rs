//! A person's device that never gives up: connects, resumes where it was, records what arrives.
//!
//! It behaves as a good client does: goes to another node when one does not answer, gives a silent one up after three
//! heartbeats, and waits as long as `bye` asked.

use crate::{
    dice::Dice,
    history::{Arrival, Ending, History},
    load::Recorder,
    socket::{Connect, Got, Socket},
    token,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// How long a handshake may take before the device tries elsewhere.
const HANDSHAKE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Device {
    name: String,
    user: String,
    task: JoinHandle<()>,
    last: watch::Receiver<i64>,
    record: Recorder,
}

impl Device {
    /// `nodes` says where hosts are now; empty while all are down.
    pub fn start(name: &str, user: &str, nodes: watch::Receiver<Vec<SocketAddr>>, record: &Recorder) -> Self {
        let (tell, last) = watch::channel(0);
        let mut dice = Dice::of(name);
        let life = Life {
            name: name.to_owned(),
            user: user.to_owned(),
            nodes,
            turn: dice.below(64) as usize,
            dice,
            failures: 0,
            record: record.clone(),
            tell,
            cursor: None,
        };
        Self {
            name: name.to_owned(),
            user: user.to_owned(),
            task: tokio::spawn(life.run()),
            last,
            record: record.clone(),
        }
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// Waits until it has everything up to `head`.
    pub async fn reaches(&mut self, head: i64) {
        let wait = self.last.wait_for(|last| *last >= head);
        let reached = tokio::time::timeout(Duration::from_mins(1), wait).await.is_ok_and(|r| r.is_ok());
        assert!(reached, "{} stands at {} of {head}", self.name, *self.last.borrow());
    }

    /// Waits until it has everything up to `head`, and marks it complete in the record.
    pub async fn finish(mut self, head: i64) {
        self.reaches(head).await;
        self.task.abort();
        self.record.with(|h| h.complete_devices.push((self.name.clone(), self.user.clone())));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Life {
    name: String,
    user: String,
    nodes: watch::Receiver<Vec<SocketAddr>>,
    /// Which of the nodes.
    turn: usize,
    dice: Dice,
    /// In a row.
    failures: u32,
    record: Recorder,
    tell: watch::Sender<i64>,
    /// (epoch, seq) to resume from.
    cursor: Option<(String, i64)>,
}

/// How a connection, or a try at one, ended.
struct End {
    /// A close code, an HTTP status, 0 when there was nobody.
    code: u16,
    /// What `bye` asked for.
    bye: Option<(u64, u64)>,
}

impl Life {
    async fn run(mut self) {
        let token = token::user(&self.user);
        self.record.with(|h| h.secret(&format!("the token of {}", self.name), &token));
        loop {
            let Ok(nodes) = self.nodes.wait_for(|nodes| !nodes.is_empty()).await.map(|n| n.clone()) else { return };
            let address = nodes[self.turn % nodes.len()];
            let mut connect = Connect::at(address).token(&token).v1();
            if let Some((epoch, since)) = &self.cursor {
                connect = connect.resume(epoch, *since);
            }
            let end = match tokio::time::timeout(HANDSHAKE, connect.try_open()).await {
                Ok(Ok(socket)) => {
                    self.failures = 0;
                    self.live(address, socket).await
                }
                Ok(Err(refused)) => End { code: refused.status, bye: None },
                Err(_) => End { code: 0, bye: None },
            };
            let (device, user) = (self.name.clone(), self.user.clone());
            self.record.with(|h| {
                let at = h.moment();
                h.endings.push(Ending { at, device, user, code: end.code });
            });
            self.turn += 1;
            tokio::time::sleep(self.pause(&end)).await;
        }
    }

    /// Before the next try. Whoever has several devices would not have them come back in step.
    fn pause(&mut self, end: &End) -> Duration {
        if let Some((after, spread)) = end.bye {
            return Duration::from_millis(after + self.dice.below(spread));
        }
        let most = 20u64 << self.failures.min(6);
        self.failures += 1;
        Duration::from_millis(most / 2 + self.dice.below(most))
    }

    async fn live(&mut self, address: SocketAddr, mut socket: Socket) -> End {
        let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        let mut patience = Duration::from_secs(10);
        let mut bye = None;
        loop {
            // The host may be gone without a word; its next life has another address.
            let got = tokio::select! {
                got = socket.next_within(patience) => got,
                _ = self.nodes.wait_for(|nodes| !nodes.contains(&address)) => None,
            };
            let text = match got {
                Some(Got::Text(text)) => text,
                Some(Got::Closed(closed)) => return End { code: closed.code, bye },
                None => return End { code: 1006, bye },
            };
            let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
            match frame["type"].as_str().unwrap_or_default() {
                "hello" => {
                    patience = Duration::from_millis(frame["data"]["heartbeat_ms"].as_u64().expect("a heartbeat") * 3);
                    if self.cursor.is_some() {
                        continue;
                    }
                    let epoch = frame["data"]["epoch"].as_str().expect("an epoch").to_owned();
                    self.cursor = Some((epoch, 0));
                    // From the very beginning, whatever was there before.
                    let resume = serde_json::json!({"type": "resume", "epoch": self.epoch(), "since": 0});
                    if socket.try_send(tokio_tungstenite::tungstenite::Message::text(resume.to_string())).await.is_err()
                    {
                        return End { code: 1006, bye };
                    }
                }
                "notification" => {
                    let seq = frame["seq"].as_i64().expect("v1 carries seq");
                    self.arrived(connection, seq, &frame);
                }
                "resumed" => self.moved(frame["data"]["to"].as_i64().expect("a cursor")),
                "reset" => panic!("{} was reset: {frame}", self.name),
                "bye" => bye = frame["data"]["after_ms"].as_u64().zip(frame["data"]["spread_ms"].as_u64()),
                _ => {}
            }
        }
    }

    fn epoch(&self) -> &str {
        self.cursor.as_ref().map_or("", |(epoch, _)| epoch)
    }

    fn moved(&mut self, seq: i64) {
        if let Some((_, last)) = &mut self.cursor {
            *last = seq.max(*last);
            self.tell.send_replace(*last);
        }
    }

    fn arrived(&mut self, connection: u64, seq: i64, frame: &Value) {
        let id = frame["data"]["notification_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let (device, user) = (self.name.clone(), self.user.clone());
        self.record.with(|h: &mut History| {
            let at = h.moment();
            h.arrivals.push(Arrival { at, device, user, connection: Some(connection), seq: Some(seq), id });
        });
        self.moved(seq);
    }
}
