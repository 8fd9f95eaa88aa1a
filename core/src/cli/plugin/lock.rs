//! `campanile plugin add|list|remove`: what `plugins.lock` lists. They write the file and nothing else; a running server
//! takes a change up when it is told to.

use super::super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone, safe},
    settings,
};
use crate::channel::loaded;
use campanile_loader::{
    Admitted, Entry, Isolation, Limits, Lock, Refusal, Runner, Settings, check_entry, lock, probe_file, unsupported,
};
use campanile_plugin::wire::Description;
use serde_json::json;
use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

#[derive(clap::Args, Debug)]
pub struct Add {
    /// The plugin's file; one from elsewhere is copied into plugins.dir.
    file: PathBuf,
    /// Run it in a process of its own, where no fault of it can reach the server, or in the server itself.
    #[arg(long, value_name = "LEVEL", default_value = "process", value_parser = ["process", "in-process"])]
    isolation: String,
    /// A host that it may call through the server: api.example.org, *.example.org, or * for every public one. Repeat it.
    #[arg(long = "allow-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
    /// A host that may have a private address. Repeat it.
    #[arg(long = "private-host", value_name = "HOST")]
    private_hosts: Vec<String>,
    /// List it without asking.
    #[arg(long)]
    yes: bool,
}

fn configured(global: &Global) -> Outcome<Settings> {
    let loaded = settings::load(global, &[])?;
    loaded::settings(&loaded.config).ok_or_else(|| {
        Failure::usage("no folder for plugins is configured")
            .why("plugins.dir is not set")
            .next("set plugins.dir to a folder that only root or the service's user can write to")
    })
}

fn refused(what: impl Into<String>, refusal: &Refusal) -> Failure {
    Failure::new(Code::Failed, what).why(refusal)
}

fn written(path: &Path, lock: &Lock) -> Outcome {
    lock.write(path).map_err(|e| Failure::failed(format!("{} can't be written", path.display())).why(e))
}

fn read(path: &Path) -> Outcome<Lock> {
    Lock::read(path).map_err(|refusal| refused("the lock file can't be used", &refusal))
}

pub async fn add(args: Add, global: &Global, out: Output) -> Outcome {
    let settings = configured(global)?;
    for host in args.allowed_hosts.iter().chain(&args.private_hosts) {
        lock::check_host(host).map_err(Failure::usage)?;
    }
    campanile_loader::check_folder(&settings.dir).map_err(|r| refused("plugins.dir can't be used", &r))?;
    let mut listed = read(&settings.lock)?;
    let path = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    let (admitted, description) = tried(&path).await?;
    let manifest = &admitted.manifest;
    let Some(file) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
        return Err(Failure::usage(format!("{} names no file", path.display())));
    };
    let entry = Entry {
        name: manifest.name.clone(),
        file,
        version: manifest.version.clone(),
        sha256: admitted.sha256.clone(),
        isolation: if args.isolation == "in-process" { Isolation::InProcess } else { Isolation::Process },
        allowed_hosts: args.allowed_hosts,
        private_hosts: args.private_hosts,
        limits: listed.get(&manifest.name).map_or_else(Limits::default, |old| old.limits.clone()),
        unload: false,
    };
    let old = listed.get(&entry.name).cloned();
    show(&entry, &description, old.as_ref(), out);
    if !args.yes && !agreed()? {
        return Err(Failure::failed("nothing was changed"));
    }
    if path.parent() != Some(&settings.dir) {
        install(&settings.dir.join(&entry.file), &admitted.bytes)?;
    }
    // With the rules that the server will hold it to.
    check_entry(&settings.dir, &entry).map_err(|r| refused("the file would not load from where it lies", &r))?;
    let name = entry.name.clone();
    listed.put(entry);
    written(&settings.lock, &listed)?;
    if out.json {
        out.show(&json!({ "name": name, "lock": settings.lock }), |_| {});
    }
    out.line(format!("{} {name} in {}", out.paint(Tone::Good, "✓ listed"), settings.lock.display()));
    out.line("A running server takes it up at its next start, or when it is told to reload it.");
    Ok(())
}

/// Everything that can be known of a file, its own words included: those come from a child that is thrown away.
async fn tried(path: &Path) -> Outcome<(Admitted, Description)> {
    let cache = std::env::temp_dir().join(format!("campanile-{}", uuid::Uuid::new_v4().simple()));
    fs::DirBuilder::new().mode(0o700).create(&cache).map_err(|e| Failure::failed("no temporary folder").why(e))?;
    let tried = probe_file(path, &cache, &Runner::this()).await;
    let _ = fs::remove_dir_all(&cache);
    tried.map_err(|refusal| refused(format!("{} is no plugin for this server", path.display()), &refusal))
}

fn show(entry: &Entry, description: &Description, old: Option<&Entry>, out: Output) {
    let hosts = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let before = old.map(|o| format!(" (listed now: {})", o.version)).unwrap_or_default();
    out.line(out.paint(Tone::Strong, &format!("{} {}", entry.name, safe(&entry.version))) + &before);
    if !description.description.is_empty() {
        out.line(format!("  {}", safe(&description.description)));
    }
    let rows = [
        ("File", entry.file.clone()),
        ("SHA-256", entry.sha256.clone()),
        ("Authors", description.authors.clone()),
        ("License", description.license.clone()),
        ("Recipient", description.recipient.format.clone()),
        ("At once", description.max_concurrency.to_string()),
        ("Isolation", entry.isolation.word().to_owned()),
        ("Asks for", description.hosts.join(", ")),
        ("May call", hosts(&entry.allowed_hosts)),
    ];
    for (what, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        out.line(format!("  {what:<10} {}", safe(value)));
    }
    if !entry.private_hosts.is_empty() {
        out.line(format!("  {:<10} {} (private addresses)", "", hosts(&entry.private_hosts)));
    }
    if entry.isolation == Isolation::InProcess {
        let warning = "In-process it has all the server's powers, and a crash of it is a crash of the server.";
        out.line(format!("  {}", out.paint(Tone::Warn, warning)));
    } else if description.recommended_isolation.as_deref() == Some("in-process") {
        out.line("  Its author suggests in-process; that is for plugins you trust as much as the server.");
    }
}

fn agreed() -> Outcome<bool> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is here to be asked").next("add --yes to list it without a question"));
    }
    let _ = write!(io::stderr(), "List it? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|e| Failure::failed("the answer can't be read").why(e))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The bytes that were checked, in one step.
fn install(to: &Path, bytes: &[u8]) -> Outcome {
    let half = to.with_extension(format!("{}.half", std::process::id()));
    let write = || {
        fs::write(&half, bytes)?;
        fs::set_permissions(&half, fs::Permissions::from_mode(0o644))?;
        fs::rename(&half, to)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&half)))
        .map_err(|e| Failure::failed(format!("{} can't be written", to.display())).why(e))
}

pub fn list(global: &Global, out: Output) -> Outcome {
    let settings = configured(global)?;
    let listed = read(&settings.lock)?;
    let state = |entry: &Entry| {
        let refused = || check_entry(&settings.dir, entry).err().map(|refusal| refusal.to_string());
        unsupported().map(str::to_owned).or_else(refused)
    };
    let items: Vec<_> = listed
        .entries
        .iter()
        .map(|e| {
            json!({
                "name": e.name, "version": e.version, "file": e.file, "sha256": e.sha256,
                "isolation": e.isolation.word(), "allowed_hosts": e.allowed_hosts,
                "private_hosts": e.private_hosts, "problem": state(e),
            })
        })
        .collect();
    out.show(&json!({ "items": items }), |out| {
        let head = ["PLUGIN", "VERSION", "ISOLATION", "FILE", "SHA-256", "STATE"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for entry in &listed.entries {
            rows.push(vec![
                entry.name.clone(),
                entry.version.clone(),
                entry.isolation.word().to_owned(),
                entry.file.clone(),
                format!("{}…", &entry.sha256[..12]),
                state(entry).unwrap_or_else(|| "ok".to_owned()),
            ]);
        }
        out.table(&rows);
    });
    Ok(())
}

pub fn remove(name: &str, global: &Global, out: Output) -> Outcome {
    let settings = configured(global)?;
    let mut listed = read(&settings.lock)?;
    if !listed.remove(name) {
        return Err(Failure::failed(format!("no plugin {name:?} is listed")).next("campanile plugin list"));
    }
    written(&settings.lock, &listed)?;
    out.line(format!("{} {name}; its file stays where it is", out.paint(Tone::Good, "✓ no longer listed")));
    Ok(())
}
