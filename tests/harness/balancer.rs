//! HAProxy or nginx with the very file that is shipped; only addresses are ours.
//!
//! Owns: the process, its folder, what it logs. It ends with the value, or with the test that dies.

use crate::wait::until;
use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Haproxy,
    Nginx,
}

pub struct Balancer {
    address: SocketAddr,
    /// A shell that ends the balancer when its input does.
    shell: Child,
    log: Arc<Mutex<String>>,
    _folder: TempDir,
}

impl Balancer {
    /// Starts it in front of these nodes, which need not run yet.
    pub async fn start(kind: Kind, nodes: [SocketAddr; 2]) -> Self {
        let folder = tempfile::Builder::new().prefix("campanile-balancer-").tempdir().expect("a temporary folder");
        let address = free_address();
        let mut command = match kind {
            Kind::Haproxy => haproxy(address, nodes),
            Kind::Nginx => nginx(folder.path(), address, nodes),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = command.spawn().expect("sh starts");
        let log = Arc::default();
        collect(shell.stdout.take().expect("stdout is piped"), &log);
        collect(shell.stderr.take().expect("stderr is piped"), &log);
        let balancer = Self { address, shell, log, _folder: folder };
        until("the balancer listens", || async {
            let open = tokio::net::TcpStream::connect(address).await.is_ok();
            assert!(open || balancer.log().len() < 20_000, "{}", balancer.log());
            open.then_some(())
        })
        .await;
        balancer
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
    /// Everything it wrote.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- what the balancer wrote last\n{}\n---", &log[log.len().saturating_sub(4000)..]);
        }
    }
}

/// An address of the loopback that nobody has now, below the ports that systems hand to clients.
pub fn free_address() -> SocketAddr {
    loop {
        let port = 20_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 12_000).expect("small");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("it has an address");
        }
    }
}

/// The program under a shell that waits for the end of its own input and then ends the program.
pub fn under_shell(program: &str) -> Command {
    let script = r#"PATH="$PATH:/usr/sbin:/usr/local/sbin"; "$@" & pid=$!; read -r _; kill -TERM $pid; wait $pid"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", program]);
    command
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy").join(file)
}

fn haproxy(address: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
    let mut command = under_shell("haproxy");
    command
        .args(["-db", "-f"])
        .arg(shipped("haproxy/haproxy.cfg"))
        .env("CAMPANILE_LISTEN", address.to_string())
        .env("CAMPANILE_NODE_1", nodes[0].to_string())
        .env("CAMPANILE_NODE_2", nodes[1].to_string());
    command
}

fn nginx(folder: &Path, address: SocketAddr, nodes: [SocketAddr; 2]) -> Command {
    let file = shipped("nginx/nginx.conf");
    let mut text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut replace = |from: &str, to: String| {
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in {}", file.display());
        text = text.replace(from, &to);
    };
    replace("    listen 80;", format!("    listen {address};"));
    replace("server 127.0.0.1:8001 ", format!("server {} ", nodes[0]));
    replace("server 127.0.0.1:8002 ", format!("server {} ", nodes[1]));
    // Where a body that is too large for memory waits; the built-in places belong to the system.
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|p| format!("    {p}_temp_path {p}_temp;\n")).concat();
    replace("http {\n", format!("http {{\n{places}"));
    let config = folder.join("nginx.conf");
    std::fs::write(&config, text).expect("the configuration can be written");
    let mut directives = format!("daemon off; pid {}/nginx.pid;", folder.display());
    if rustix::process::getuid().is_root() {
        // The workers write into our folder.
        directives.push_str(" user root;");
    }
    let mut command = under_shell("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr", "-g", &directives]);
    command
}

fn collect(mut pipe: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = log.clone();
    std::thread::spawn(move || {
        let mut piece = [0u8; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut piece) {
            log.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    });
}
