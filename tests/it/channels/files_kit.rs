//! For tests of channels from files: hosts with a folder of plugins, the command line, and files built as authors build them.

use campanile_tests::{
    host::{API_KEY, HostBuilder, binary},
    prelude::*,
};
use sha2::{Digest, Sha256};
use std::{
    env,
    fmt::Write,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

pub const BOTH: [&str; 2] = ["process", "in-process"];

/// A host that isn't started yet, and its folder of plugins.
pub struct House {
    pub host: TestHost,
    pub folder: PathBuf,
}

impl House {
    pub fn new(change: impl FnOnce(HostBuilder) -> HostBuilder) -> Self {
        let mut host = TestHost::builder().text("plugins.secret_key", &"k".repeat(32)).prepare();
        let folder = host.folder().canonicalize().unwrap().join("plugins");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let dir = folder.display().to_string();
        host.reconfigure(|b| change(b.text("plugins.dir", &dir)));
        Self { host, folder }
    }

    /// `campanile plugin …` beside the server.
    pub async fn plugin(&self, args: &[&str]) -> Output {
        let mut command = self.host.command();
        command.arg("plugin").args(args).env("CAMPANILE_PLUGINS__DIR", &self.folder);
        command.env("CAMPANILE_AUTH__API_KEY", API_KEY).env("CAMPANILE_SERVER__DATA_DIR", self.host.data_dir());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Lists the file and whatever is said of it.
    pub async fn add(&self, file: &Path, more: &[&str]) -> String {
        let file = file.display().to_string();
        let out = self.plugin(&[&["add", file.as_str(), "--yes"], more].concat()).await;
        assert!(out.status.success(), "{}", said(&out));
        said(&out)
    }

    /// As the command line does it, at the running server.
    pub async fn reload(&self, name: &str) -> Output {
        self.plugin(&["reload", name, "--server", &self.host.url(""), "--key", API_KEY]).await
    }

    /// What the API says of a plugin; null when it says nothing.
    pub async fn known(&self, name: &str) -> Value {
        let all = self.host.api().get("/api/v1/plugins").await.expect(200);
        let found = all["items"].as_array().unwrap().iter().find(|p| p["name"] == name).cloned();
        found.unwrap_or(Value::Null)
    }

    pub async fn instance(&self, name: &str) -> Value {
        self.host.api().get(&format!("/api/v1/instances/{name}")).await.expect(200)
    }

    pub async fn create(&self, new: &Value) -> Value {
        let made = self.host.api().post("/api/v1/instances", new).await.expect(201);
        assert_eq!(made["state"], "running", "{made}");
        made
    }

    /// One message by that channel to that address.
    pub async fn send(&self, channel: &str, address: &str) -> String {
        self.host.api().accepted(&note(channel, address)).await
    }
}

/// Listed by hand, past all that the command line would say to it.
pub fn list(house: &House, name: &str, bytes: &[u8]) {
    let sha = Sha256::digest(bytes).iter().fold(String::new(), |mut out, b| {
        write!(out, "{b:02x}").unwrap();
        out
    });
    fs::write(house.folder.join(format!("{name}.so")), bytes).unwrap();
    let lock = house.folder.join("plugins.lock");
    let mut text = fs::read_to_string(&lock).unwrap();
    write!(text, "\n[[plugin]]\nname = \"{name}\"\nfile = \"{name}.so\"\nversion = \"1.0.0\"\nsha256 = \"{sha}\"\n")
        .unwrap();
    fs::write(lock, text).unwrap();
}

pub fn note(channel: &str, address: &str) -> Value {
    json!({"to": [{"user_id": "ada", "addresses": {channel: address}}], "title": "Doors open", "message": "At nine.",
        "channels": [channel]})
}

pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

pub fn outcomes(delivery: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    delivery["attempts"].as_array().unwrap().iter().map(|a| text(&a["outcome"])).collect()
}

/// Processes whose parent is that one.
pub fn children(of: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state, parent.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    all.filter(|pid| parent(*pid) == Some(of)).collect()
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Beside the workspace's own build, shared by all tests that build plugins.
pub fn target() -> PathBuf {
    let target = env::current_exe().unwrap().ancestors().nth(3).unwrap().join("plugins");
    fs::create_dir_all(&target).unwrap();
    target
}

pub fn good(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?} does not run: {e}"));
    assert!(out.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// A file in C, with what stands behind `-D`.
pub fn compiled(source: &str, flags: &[&str]) -> PathBuf {
    static NTH: AtomicU64 = AtomicU64::new(0);
    let n = NTH.fetch_add(1, Ordering::Relaxed);
    let out = target().join(format!("host-{}-{n}.so", std::process::id()));
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu99", "-D_GNU_SOURCE", "-O1", "-fPIC", "-fvisibility=hidden", "-shared", "-pthread", "-w"]);
    gcc.arg("-I").arg(root().join("plugins/abi/include")).args(flags).arg(root().join(source)).arg("-o").arg(&out);
    good(&mut gcc);
    fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
    out
}

/// Does what no plugin may, when it is told to.
pub fn villain(lies: &[&str]) -> PathBuf {
    // A plugin that lacks a symbol is what `-z defs` would stop.
    let strict = if lies.contains(&"-DMISSING") { "-Wl,-z,lazy" } else { "-Wl,-z,defs" };
    compiled("core/loader/tests/it/villain.c", &[&[strict], lies].concat())
}

/// The example in C, by its author's own means.
pub fn c_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let out = target().join(format!("host-{}-libc_file.so", std::process::id()));
        let mut make = Command::new("make");
        good(make.arg("-s").arg("-C").arg(root().join("plugins/examples/c")).arg(format!("OUT={}", out.display())));
        fs::set_permissions(&out, fs::Permissions::from_mode(0o644)).unwrap();
        out
    });
    &FILE
}

/// Plugins of the first interface, written against nothing but its layout: in C and in Rust.
pub fn oldest() -> [PathBuf; 2] {
    let source = root().join("plugins/examples/oldest");
    let [c, rust] = ["c", "rust"].map(|name| target().join(format!("host-{}-oldest-{name}.so", std::process::id())));
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c89", "-fvisibility=hidden", "-fPIC", "-shared"]).arg(source.join("plugin.c")).arg("-o").arg(&c);
    good(&mut gcc);
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2018", "--crate-type", "cdylib", "-O"])
        .arg(source.join("plugin.rs"))
        .arg("-o")
        .arg(&rust);
    good(&mut rustc);
    [c, rust].map(|file| {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        file
    })
}

/// E-mail as a file, built with the rest of the workspace.
pub fn email() -> PathBuf {
    binary().with_file_name("libcampanile_email_file.so")
}

/// The websocket channel as a file, built with the rest of the workspace.
pub fn websocket() -> PathBuf {
    binary().with_file_name("libcampanile_websocket_file.so")
}

/// Cargo as an author calls it, into the folder that all such builds share.
pub fn built_by_cargo(args: &[&str], manifest: &Path) {
    built_by_cargo_as(args, manifest, &target(), &[]);
}

/// The same into a folder of its own, with what the author has in the environment.
pub fn built_by_cargo_as(args: &[&str], manifest: &Path, target: &Path, with: &[(&str, &str)]) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target);
    // The flags of the build that runs us are not the author's.
    for (key, _) in env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if (key.starts_with("CARGO") && key != "CARGO_HOME") || key.starts_with("RUSTFLAGS") {
            cargo.env_remove(key);
        }
    }
    good(cargo.envs(with.iter().copied()));
}

/// A channel that ships as a plugin, by the lock of those. All are built together, as they ship.
pub fn shipped(name: &str) -> PathBuf {
    static BUILT: LazyLock<()> = LazyLock::new(|| {
        built_by_cargo(&["build", "--locked", "--workspace"], &root().join("plugins/Cargo.toml"));
    });
    LazyLock::force(&BUILT);
    target().join(format!("debug/libcampanile_{name}.so"))
}

pub fn webhook() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| shipped("webhook"));
    &FILE
}

/// The smallest of them.
pub fn stdout() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| shipped("stdout"));
    &FILE
}
