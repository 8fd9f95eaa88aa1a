//! The folder of plugins and its lock file: what may load, and whether it would. No code of a plugin runs for it.

use super::Finding;
use crate::{channel::loaded, config::Config};
use campanile_loader::{Entry, Isolation, Lock, Settings, Step, check_entry, check_folder, unsupported};
use std::{fs, os::unix::fs::MetadataExt};

const WHAT: &str = "plugins";

pub fn check(config: &Config) -> Vec<Finding> {
    let Some(settings) = loaded::settings(config) else { return vec![Finding::good(WHAT, "none configured")] };
    if let Some(why) = unsupported() {
        return vec![Finding::wrong(WHAT, why, "remove plugins.dir, or run a build that loads plugins")];
    }
    if let Err(refusal) = check_folder(&settings.dir) {
        return vec![Finding::wrong(WHAT, refusal.reason, "correct the folder, or plugins.dir")];
    }
    let lock = match Lock::read(&settings.lock) {
        Ok(lock) => lock,
        Err(refusal) => {
            let fix = "correct it, or remove it and list each plugin with campanile plugin add FILE";
            return vec![Finding::wrong(WHAT, refusal.reason, fix)];
        }
    };
    let mut found = vec![folder(&settings, lock.entries.len())];
    found.extend(settings.lock.parent().and_then(|dir| check_folder(dir).err()).map(|refusal| {
        Finding::wrong(WHAT, format!("the lock file's folder: {}", refusal.reason), "correct it, or plugins.lock")
    }));
    found.extend(lock.entries.iter().map(|entry| one(&settings, entry)));
    found
}

/// Whoever breaks into a service that can write there plants code that runs at its next start.
fn folder(settings: &Settings, listed: usize) -> Finding {
    let dir = settings.dir.display();
    let own = fs::metadata("/proc/self").map(|m| m.uid()).ok().filter(|uid| *uid != 0);
    let theirs = fs::metadata(&settings.dir).map(|m| m.uid()).ok();
    if own.is_some() && own == theirs {
        let text =
            format!("{dir} belongs to the user who asks; a service that runs as this user can change its plugins");
        return Finding::look(WHAT, text, format!("chown -R root {dir}"));
    }
    let count = if listed == 1 { "1 is listed".to_owned() } else { format!("{listed} are listed") };
    Finding::good(WHAT, format!("{dir}: {count} in {}", settings.lock.display()))
}

fn one(settings: &Settings, entry: &Entry) -> Finding {
    let name = &entry.name;
    if let Err(refusal) = check_entry(&settings.dir, entry) {
        let fix = match refusal.step {
            Step::Hash | Step::Manifest => format!("campanile plugin add {}", settings.dir.join(&entry.file).display()),
            _ => format!("correct the file, or campanile plugin remove {name}"),
        };
        return Finding::wrong(WHAT, format!("{name} would be refused: {}", refusal.reason), fix);
    }
    match entry.isolation {
        Isolation::Process => Finding::good(WHAT, format!("{name} {} in a process of its own", entry.version)),
        Isolation::InProcess => Finding::good(WHAT, format!("{name} {} in the server's process", entry.version)),
    }
}
