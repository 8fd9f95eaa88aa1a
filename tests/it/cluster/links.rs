//! Two nodes on one database, each with a proxy between it and the bus.

use campanile_tests::{
    host::{HostBuilder, TestHost},
    prelude::*,
    proxy::Mode,
    unique,
};
use std::{net::SocketAddr, path::PathBuf, sync::Mutex};

/// Each case over each broker, as a test of its own.
macro_rules! on_each_bus {
    ($($case:ident),+ $(,)?) => {
        mod rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::cluster::links::Links::over_rabbitmq()).await;
                }
            )+
        }
        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::cluster::links::Links::over_redis()).await;
                }
            )+
        }
    };
}
pub(super) use on_each_bus;

enum Broker {
    RabbitMq,
    /// With the channel of this test.
    Redis(String),
}

pub(super) struct Links {
    broker: Broker,
    /// By the folder of the host that each is for.
    proxies: Mutex<Vec<(PathBuf, Proxy)>>,
}

impl Links {
    pub(super) fn over_rabbitmq() -> Self {
        Self { broker: Broker::RabbitMq, proxies: Mutex::default() }
    }
    pub(super) fn over_redis() -> Self {
        Self { broker: Broker::Redis(unique("bus")), proxies: Mutex::default() }
    }

    fn server(&self, host: &TestHost) -> reqwest::Url {
        match &self.broker {
            Broker::RabbitMq => host.engines().queue().parse().unwrap(),
            Broker::Redis(channel) => {
                let url = std::env::var("CAMPANILE_TEST_REDIS").unwrap_or_else(|_| {
                    panic!(
                        "CAMPANILE_TEST_REDIS names no server; `scripts/services/redis start` starts one and prints it"
                    )
                });
                let mut url: reqwest::Url = url.parse().unwrap();
                url.set_query(Some(&format!("channel={channel}")));
                url
            }
        }
    }

    fn through(&self, host: &TestHost, address: SocketAddr) -> String {
        let mut url = self.server(host);
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(address.port())).unwrap();
        url.to_string()
    }

    async fn launch(&self, host: &mut TestHost) {
        let server = self.server(host);
        let port = server.port().expect("the servers of a run have ports of their own");
        let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let url = self.through(host, proxy.address());
        host.reconfigure(|h| h.text("bus.url", &url));
        host.launch().await;
        self.proxies.lock().unwrap().push((host.folder().to_owned(), proxy));
    }

    /// Two nodes whose buses are up.
    pub(super) async fn two(&self, change: impl FnOnce(HostBuilder) -> HostBuilder) -> [TestHost; 2] {
        // The queue is not what these tests are about; each node looks at the table itself.
        let builder = change(TestHost::builder().production().text("queue.url", "embedded"));
        let mut one = builder.prepare();
        self.launch(&mut one).await;
        let mut other = one.peer();
        self.launch(&mut other).await;
        for host in [&one, &other] {
            self.is(host, true).await;
        }
        [one, other]
    }

    /// A host whose bus is not there.
    pub(super) async fn without_a_bus(&self, change: impl FnOnce(HostBuilder) -> HostBuilder) -> TestHost {
        let mut host = change(TestHost::builder().production().text("queue.url", "embedded")).prepare();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nowhere = free.local_addr().unwrap();
        drop(free);
        let url = self.through(&host, nowhere);
        host.reconfigure(|h| h.text("bus.url", &url));
        host.launch().await;
        host
    }

    async fn is(&self, host: &TestHost, up: bool) {
        until(&format!("the bus is up: {up}"), || async {
            let degraded = host.api().get("/readyz").await.expect(200)["degraded"].to_string();
            (degraded.contains("bus") != up).then_some(())
        })
        .await;
    }

    fn set(&self, host: &TestHost, mode: Mode) {
        let proxies = self.proxies.lock().unwrap();
        let (_, proxy) = proxies.iter().find(|(folder, _)| folder == host.folder()).expect("a host of ours");
        proxy.set(mode);
    }

    pub(super) async fn cut(&self, host: &TestHost) {
        self.set(host, Mode::Cut);
        self.is(host, false).await;
    }
    pub(super) async fn mend(&self, host: &TestHost) {
        self.set(host, Mode::Pass);
        self.is(host, true).await;
    }
}
