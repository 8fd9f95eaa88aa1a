//! Crashes: at each crash point of the delivery path, and at random instants. After the restart the invariants hold.

mod points;
mod random;

use campanile_tests::{
    Api, TestHost, checker,
    device::Device,
    history::{Final, Terms},
    host::HostBuilder,
    load::Recorder,
    smtp::SmtpServer,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

const SCHEDULE: [i64; 4] = [200, 300, 400, 500];

/// A host that dies and comes back, the mail relay it talks to, and one device that watches it all.
struct Drill {
    host: TestHost,
    relay: SmtpServer,
    record: Recorder,
    address: watch::Sender<Vec<SocketAddr>>,
    /// For writers on other tasks.
    api: Arc<Mutex<Option<Api>>>,
}

impl Drill {
    fn builder(relay: &SmtpServer) -> HostBuilder {
        let schedule: Vec<_> = SCHEDULE.iter().map(|ms| format!("\"{ms}ms\"")).collect();
        TestHost::builder()
            .mail_to(relay.address)
            .set("retry.schedule", format!("[{}]", schedule.join(", ")))
            .text("worker.lease", "3s")
    }

    async fn start(change: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        let relay = SmtpServer::start().await;
        let host = change(Self::builder(&relay)).start().await;
        let drill = Self {
            host,
            relay,
            record: Recorder::default(),
            address: watch::Sender::new(Vec::new()),
            api: Arc::default(),
        };
        drill.record.with(|h| {
            h.terms = Terms { schedule_ms: SCHEDULE.to_vec(), jitter: 0.2, slack_ms: 60_000, sweep_ms: 5_000 };
        });
        drill.up();
        drill
    }

    fn up(&self) {
        self.address.send_replace(vec![self.host.address()]);
        *self.api.lock().unwrap() = Some(self.host.api());
    }
    fn down(&self) {
        self.address.send_replace(Vec::new());
        *self.api.lock().unwrap() = None;
    }

    fn device(&self, name: &str, user: &str) -> Device {
        Device::start(name, user, self.address.subscribe(), &self.record)
    }

    /// Puts the people of this drill on the books.
    async fn people(&self, users: &[&str]) {
        for user in users {
            let body = serde_json::json!({"email": format!("{user}@example.org")});
            let reply = self.host.api().put(&format!("/api/v1/users/{user}"), &body).await;
            assert!(reply.status < 300, "{}", reply.text);
        }
    }

    /// The process is gone, by its own doing or ours: notes the rows it left and starts it again.
    async fn revive(&mut self) {
        self.down();
        if self.host.is_running() {
            self.host.kill9().await;
        } else {
            self.host.wait_exit(Duration::from_secs(20)).await;
        }
        let db = self.host.db().await;
        self.record.saw(&db.deliveries().await);
        db.close().await;
        self.host.launch().await;
        self.up();
    }

    /// Waits until everything is settled, lets the devices catch up, and judges.
    async fn judge(mut self, devices: Vec<(Device, &str)>) -> campanile_tests::history::History {
        assert!(self.host.is_running(), "the host is gone: {}", self.host.output());
        let db = self.host.db().await;
        campanile_tests::wait::until_within(Duration::from_mins(1), "everything is settled", || async {
            let open =
                db.count("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'sending', 'retrying')").await;
            let audiences = db.count("SELECT count(*) FROM audiences WHERE done_at IS NULL").await;
            (open + audiences == 0).then_some(())
        })
        .await;
        let users = db.users().await;
        for (device, user) in devices {
            let head = users.iter().find(|u| u.user_id == user).map_or(0, |u| u.head_seq);
            device.finish(head).await;
        }
        self.record.mailed(self.relay.received().iter().map(|m| m.message_id()));
        let mut history = self.record.take();
        history.end = Final::read(&db).await;
        checker::assert_holds(&history);
        assert!(!self.host.output().contains("panicked at"), "{}", self.host.output());
        history
    }
}
