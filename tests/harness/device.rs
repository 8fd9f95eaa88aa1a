//! A person's device that never gives up: connects, resumes where it was, records what arrives.

use crate::{
    history::{Arrival, History},
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

#[derive(Debug)]
pub struct Device {
    name: String,
    user: String,
    task: JoinHandle<()>,
    last: watch::Receiver<i64>,
    record: Recorder,
}

impl Device {
    /// `address` says where the host is now; `None` while it is down.
    pub fn start(name: &str, user: &str, address: watch::Receiver<Option<SocketAddr>>, record: &Recorder) -> Self {
        let (tell, last) = watch::channel(0);
        let life =
            Life { name: name.to_owned(), user: user.to_owned(), address, record: record.clone(), tell, cursor: None };
        Self {
            name: name.to_owned(),
            user: user.to_owned(),
            task: tokio::spawn(life.run()),
            last,
            record: record.clone(),
        }
    }

    /// Waits until it has everything up to `head`, and marks it complete in the record.
    pub async fn finish(mut self, head: i64) {
        let wait = self.last.wait_for(|last| *last >= head);
        let reached = tokio::time::timeout(Duration::from_mins(1), wait).await.is_ok_and(|r| r.is_ok());
        assert!(reached, "{} stands at {} of {head}", self.name, *self.last.borrow());
        self.task.abort();
        self.record.with(|h| h.complete_devices.push((self.name.clone(), self.user.clone())));
    }
}

struct Life {
    name: String,
    user: String,
    address: watch::Receiver<Option<SocketAddr>>,
    record: Recorder,
    tell: watch::Sender<i64>,
    /// (epoch, seq) to resume from.
    cursor: Option<(String, i64)>,
}

impl Life {
    async fn run(mut self) {
        loop {
            let Ok(address) = self.address.wait_for(Option::is_some).await.map(|a| *a) else { return };
            let address = address.expect("waited for it");
            let mut connect = Connect::at(address).token(&token::user(&self.user)).v1();
            if let Some((epoch, since)) = &self.cursor {
                connect = connect.resume(epoch, *since);
            }
            if let Ok(socket) = connect.try_open().await {
                self.live(socket).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn live(&mut self, mut socket: Socket) {
        let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        loop {
            // The host may be gone without a word; its next life has another address.
            let got = tokio::select! {
                got = socket.next_within(Duration::from_hours(1)) => got,
                _ = self.address.wait_for(Option::is_none) => None,
            };
            let Some(Got::Text(text)) = got else { return };
            let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
            match frame["type"].as_str().unwrap_or_default() {
                "hello" if self.cursor.is_none() => {
                    let epoch = frame["data"]["epoch"].as_str().expect("an epoch").to_owned();
                    self.cursor = Some((epoch, 0));
                    // From the very beginning, whatever was there before.
                    let resume = serde_json::json!({"type": "resume", "epoch": self.epoch(), "since": 0});
                    if socket.try_send(tokio_tungstenite::tungstenite::Message::text(resume.to_string())).await.is_err()
                    {
                        return;
                    }
                }
                "notification" => {
                    let seq = frame["seq"].as_i64().expect("v1 carries seq");
                    self.arrived(connection, seq, &frame);
                }
                "resumed" => self.moved(frame["data"]["to"].as_i64().expect("a cursor")),
                "reset" => panic!("{} was reset: {frame}", self.name),
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
