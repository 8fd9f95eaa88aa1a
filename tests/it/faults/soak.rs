//! Steady load for a long time: what a node needs does not grow with what it has done.
//!
//! Two nodes on PostgreSQL and RabbitMQ and one on SQLite, each with people at their sockets. A few seconds of it are
//! part of the suite, where only what was accepted is judged; `scripts/soak --minutes 60` is the long one. It sets
//! `CAMPANILE_SOAK_MINUTES`, and prints each series with its level and its rise.

use crate::people;
use campanile_tests::{
    device::Device,
    dice,
    fleet::{Carrier, Fleet},
    load::{Load, Recorder, Work},
    prelude::*,
    services::Site,
    slope::Series,
    smtp::SmtpServer,
};
use std::time::Instant;
use tokio::sync::watch;

const MIB: f64 = 1024.0 * 1024.0;

/// One node's series.
struct Watched {
    memory: Series,
    files: Series,
    tasks: Series,
    pool: Series,
    /// SQLite's write-ahead log.
    wal: Option<Series>,
}

impl Watched {
    fn new(name: &str, wal: bool) -> Self {
        Self {
            memory: Series::new(format!("{name}: private memory in bytes"), 8.0 * MIB),
            files: Series::new(format!("{name}: open files"), 8.0),
            tasks: Series::new(format!("{name}: tasks"), 16.0),
            pool: Series::new(format!("{name}: connections to the database in use"), 2.0),
            wal: wal.then(|| Series::new(format!("{name}: write-ahead log in bytes"), 8.0 * MIB)),
        }
    }

    async fn look(&mut self, node: &TestHost) {
        let metrics = node.api().metrics().await;
        let of = |name: &str| metrics.iter().find(|(n, _)| n.starts_with(name)).map_or(0.0, |(_, value)| *value);
        self.memory.samples.push(node.private_bytes() as f64);
        self.files.samples.push(node.open_files() as f64);
        self.tasks.samples.push(of("campanile_tasks"));
        self.pool.samples.push(of("campanile_db_pool_connections{state=\"in_use\"}"));
        if let Some(wal) = &mut self.wal {
            let file = node.data_dir().join("campanile.db-wal");
            wal.samples.push(std::fs::metadata(file).map_or(0.0, |meta| meta.len() as f64));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Series> {
        [&self.memory, &self.files, &self.tasks, &self.pool].into_iter().chain(&self.wal)
    }
}

fn steady(name: &str, users: &[String]) -> Work {
    Work {
        name: name.into(),
        writers: 4,
        users: users.to_vec(),
        pause: Duration::from_millis(200),
        mail_every: 4,
        read_every: 5,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_needs_does_not_grow_with_what_it_has_done() {
    let minutes = dice::number("CAMPANILE_SOAK_MINUTES");
    let (length, step) = match minutes {
        Some(minutes) => (Duration::from_secs(minutes * 60), Duration::from_secs(5)),
        None => (Duration::from_secs(6), Duration::from_secs(1)),
    };
    let mut fleet = Fleet::start(Site::take().await, 2, Carrier::RabbitMq, |_, b| b).await;
    let users = people(50);
    fleet.people(&users, 2).await;
    let load = fleet.load(&steady("soak", &users));

    let relay = SmtpServer::start().await;
    let single = TestHost::builder().embedded().mail_to(relay.address).start().await;
    let (at, addresses) = watch::channel(vec![single.address()]);
    let record = Recorder::default();
    let devices: Vec<Device> =
        users.iter().map(|user| Device::start(&format!("single {user}"), user, addresses.clone(), &record)).collect();
    let beside = Load::start(&steady("single", &users), &addresses, &record);

    let mut watched = [Watched::new("node 0", false), Watched::new("node 1", false), Watched::new("SQLite", true)];
    let start = Instant::now();
    while start.elapsed() < length {
        tokio::time::sleep(step).await;
        for (watched, node) in watched.iter_mut().zip([&fleet.nodes[0], &fleet.nodes[1], &single]) {
            watched.look(node).await;
        }
    }
    let accepted = (load.stop().await, beside.stop().await);
    drop((devices, at));
    eprintln!("{} s, {} accepted by two nodes, {} by one on SQLite", start.elapsed().as_secs(), accepted.0, accepted.1);
    let mut rising = Vec::new();
    for series in watched.iter().flat_map(Watched::all) {
        let (level, rise) = series.figures();
        eprintln!("{:<52} level {level:>12.0}  rise {rise:>12.0}", series.name);
        rising.extend(series.rises());
    }
    assert!(accepted.0 > 0 && accepted.1 > 0);
    assert!(watched.iter().all(|w| w.tasks.samples.iter().all(|n| *n > 0.0)), "the tasks are counted");
    if minutes.is_some() {
        assert!(rising.is_empty(), "{}", rising.join("\n"));
        eprintln!("verdict: nothing rises");
    }
    fleet.judge("soak").await;
}
