//! A seeded run of random faults over two nodes and their servers, under steady load; then quiet, and the verdict.
//!
//! A minute of it is part of the suite. `scripts/chaos --minutes 20 --seed 7` is the long one: it sets
//! `CAMPANILE_CHAOS_MINUTES` and `CAMPANILE_SEED`, and `--judge FILE` judges a kept history again.

use campanile_tests::{
    apps, checker,
    dice::{self, Dice},
    fleet::{self, Carrier, Fleet},
    history::{History, Outcome},
    load::Work,
    prelude::*,
    proxy::Mode,
    services::Site,
};
use std::{fmt, path::Path, time::Instant};

const NODES: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Server {
    Postgres,
    Broker,
}

impl Server {
    const fn setting(self) -> &'static str {
        match self {
            Self::Postgres => "database.url",
            Self::Broker => "queue.url",
        }
    }
}

/// What goes wrong; the number is for how many seconds.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillNode {
        node: usize,
        down: u64,
    },
    DrainNode {
        node: usize,
        down: u64,
    },
    FreezeNode {
        node: usize,
        still: u64,
    },
    KillServer {
        server: Server,
        down: u64,
    },
    FreezePostgres {
        still: u64,
    },
    MemoryAlarm {
        on: u64,
    },
    /// Nothing passes for a while, then everything that was held.
    BlackHole {
        node: usize,
        to: Server,
        shut: u64,
    },
    /// What is open now stays open and silent for ever; what is opened later works.
    Swallow {
        node: usize,
        to: Server,
    },
    DeleteWorkQueue,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillNode { node, down } => write!(f, "kill -9 node {node}, back after {down} s"),
            Self::DrainNode { node, down } => write!(f, "SIGTERM to node {node}, back after {down} s"),
            Self::FreezeNode { node, still } => write!(f, "node {node} frozen for {still} s"),
            Self::KillServer { server, down } => write!(f, "kill -9 {server:?}, back after {down} s"),
            Self::FreezePostgres { still } => write!(f, "PostgreSQL frozen for {still} s"),
            Self::MemoryAlarm { on } => write!(f, "the broker's memory alarm for {on} s"),
            Self::BlackHole { node, to, shut } => write!(f, "black hole between node {node} and {to:?} for {shut} s"),
            Self::Swallow { node, to } => write!(f, "connections of node {node} to {to:?} swallowed"),
            Self::DeleteWorkQueue => write!(f, "the work queue of mails deleted"),
        }
    }
}

impl Fault {
    /// `long`: seconds may be many.
    fn roll(dice: &mut Dice, long: bool) -> Self {
        let node = dice.below(NODES) as usize;
        let server = *dice.of_these(&[Server::Postgres, Server::Broker]);
        let most = if long { 20 } else { 6 };
        let seconds = 1 + dice.below(most);
        match dice.below(10) {
            0 | 1 => Self::KillNode { node, down: seconds.min(8) },
            2 => Self::DrainNode { node, down: seconds.min(5) },
            3 => Self::FreezeNode { node, still: seconds },
            // Now and then a broker that is away for minutes.
            4 => Self::KillServer {
                server,
                down: if long && dice.below(4) == 0 { 60 + dice.below(120) } else { seconds },
            },
            5 => Self::FreezePostgres { still: seconds },
            6 => Self::MemoryAlarm { on: seconds },
            7 => Self::BlackHole { node, to: server, shut: seconds },
            8 => Self::Swallow { node, to: server },
            _ => Self::DeleteWorkQueue,
        }
    }
}

struct Run {
    fleet: Fleet,
    /// By node: the ways to the database and to the broker.
    ways: Vec<(Proxy, Proxy)>,
}

impl Run {
    async fn start() -> Self {
        let site = Site::take().await;
        let (postgres, broker) = (site.postgres().await.address(), site.rabbitmq().await.address());
        let mut ways = Vec::new();
        for _ in 0..NODES {
            ways.push((Proxy::to(postgres).await, Proxy::to(broker).await));
        }
        let change = |n: usize, b: HostBuilder| {
            let (postgres, broker): &(Proxy, Proxy) = &ways[n];
            b.via(Server::Postgres.setting(), postgres.address()).via(Server::Broker.setting(), broker.address())
        };
        Self { fleet: Fleet::start(site, NODES as usize, Carrier::RabbitMq, change).await, ways }
    }

    fn way(&self, node: usize, to: Server) -> &Proxy {
        match to {
            Server::Postgres => &self.ways[node].0,
            Server::Broker => &self.ways[node].1,
        }
    }

    async fn inflict(&mut self, fault: Fault) {
        let (postgres, broker) = (self.fleet.postgres().await, self.fleet.broker().await);
        match fault {
            Fault::KillNode { node, down } => {
                self.fleet.kill9(node).await;
                sleep(down).await;
                self.fleet.revive(node).await;
            }
            Fault::DrainNode { node, down } => {
                self.fleet.nodes[node].term();
                let status = self.fleet.nodes[node].wait_exit(Duration::from_mins(1)).await;
                assert!(status.success(), "a drained node ended with {status}");
                self.fleet.tell();
                sleep(down).await;
                self.fleet.revive(node).await;
            }
            Fault::FreezeNode { node, still } => {
                self.fleet.nodes[node].freeze();
                sleep(still).await;
                self.fleet.nodes[node].thaw();
            }
            Fault::KillServer { server, down } => {
                let server = if server == Server::Postgres { postgres } else { broker };
                server.kill9().await;
                sleep(down).await;
                server.revive().await;
            }
            Fault::FreezePostgres { still } => {
                postgres.freeze();
                sleep(still).await;
                postgres.thaw();
            }
            Fault::MemoryAlarm { on } => {
                broker.alarm(true).await;
                sleep(on).await;
                broker.alarm(false).await;
            }
            Fault::BlackHole { node, to, shut } => {
                self.way(node, to).set(Mode::BlackHole);
                sleep(shut).await;
                self.way(node, to).set(Mode::Pass);
            }
            Fault::Swallow { node, to } => self.way(node, to).swallow(),
            Fault::DeleteWorkQueue => {
                let queue = format!("queues/{}/campanile.work.email", self.fleet.vhost());
                broker.call("DELETE", &queue, &Value::Null).await;
            }
        }
    }
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_under_load_leave_every_invariant_whole() {
    let minutes = dice::number("CAMPANILE_CHAOS_MINUTES").unwrap_or(1);
    let long = minutes >= 5;
    let seed = dice::seed();
    let mut dice = Dice(seed);
    let mut run = Run::start().await;
    let users: Vec<String> = (0..if long { 200 } else { 30 }).map(|n| format!("user{n}")).collect();
    run.fleet.people(&users, 3).await;
    let other = apps::second(&run.fleet).await;
    let load = run.fleet.load(&Work {
        name: "chaos".into(),
        writers: 8,
        users,
        // About fifty a second on a machine that has the time, about fifteen in the short run.
        pause: Duration::from_millis(if long { 150 } else { 500 }),
        mail_every: 3,
        read_every: 7,
    });
    let start = Instant::now();
    let mut faults = 0;
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        let fault = Fault::roll(&mut dice, long);
        eprintln!("{:>5} s  {fault}", start.elapsed().as_secs());
        run.inflict(fault).await;
        run.fleet.healthy(&fault.to_string()).await;
        tokio::time::sleep(Duration::from_millis(500 + dice.below(2_500))).await;
        faults += 1;
    }
    let accepted = load.stop().await;
    let took = run.fleet.pushes_live().await;
    eprintln!("live pushes between all nodes {took:?} after the last fault");
    beside(&run.fleet, &other.at(&run.fleet.nodes[0])).await;
    let history = run.fleet.judge(&format!("chaos {seed}")).await;
    figures(&history, accepted, faults);
    eprintln!("verdict: every invariant holds; seed {seed}");
}

/// The second app has people and mails too; neither app is shown anything of the other.
async fn beside(fleet: &Fleet, other: &Api) {
    for n in 0..5 {
        let extra = json!({"to": [{"user_id": "other0", "email": "other0@other.example"}]});
        let id = fleet.record.post(other, &format!("other {n}"), "other0", &["websocket", "email"], &extra).await;
        id.expect("accepted");
    }
    fleet.settled().await;
    apps::look(fleet, other).await;
    let sightings =
        fleet.record.with(|h| h.sightings.iter().filter(|s| s.app == apps::OTHER && !s.ids.is_empty()).count());
    assert!(sightings > 0, "the other app saw nothing of its own");
}

fn figures(history: &History, accepted: usize, faults: usize) {
    let unknown = history.posts.iter().filter(|p| p.outcome == Outcome::Info).count();
    let slowest_recovery = history.recoveries.iter().filter_map(|r| r.healthy_after_ms).max().unwrap_or(0);
    let uncertain = history.end.attempts.iter().filter(|a| a.uncertain).count();
    eprintln!(
        "{faults} faults, {accepted} accepted, {unknown} calls without a clear answer, slowest call {} ms\n\
         {} frames on {} devices, {} connections ended, {} mails, {uncertain} uncertain attempts, slowest recovery \
         {slowest_recovery} ms",
        fleet::slowest_since(history, 0),
        history.arrivals.len(),
        history.complete_devices.len(),
        history.endings.len(),
        history.mails.len(),
    );
}

#[test]
#[ignore = "judges the history that CAMPANILE_HISTORY names; scripts/chaos --judge runs it"]
fn judge_a_kept_history() {
    let path = std::env::var("CAMPANILE_HISTORY").expect("CAMPANILE_HISTORY names a history");
    let history = History::load(Path::new(&path)).expect("the history can be read");
    let found = checker::check(&history);
    assert!(found.is_empty(), "{}", checker::shown(&found));
    eprintln!("verdict: every invariant holds");
}
