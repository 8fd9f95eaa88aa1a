//! I12–I15: apps stay apart, secrets stay unsaid, idle sockets stay small, and faults that end leave no mark.

use super::Found;
use crate::history::History;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What a printed piece of a secret must stay below, in bytes.
const PIECE: usize = 12;

/// Private memory of one idle socket, in bytes.
pub const PER_IDLE_SOCKET: u64 = 10 * 1024;

/// From the end of the last fault, in ms.
pub const HEALTHY_WITHIN: u64 = 30_000;

/// I12: an id of one app is never shown to another, in a frame, an answer or a mail.
pub fn apps_apart(history: &History, found: &mut Found) {
    let owners: HashMap<Uuid, &str> = history.owners.iter().map(|o| (o.id, o.app.as_str())).collect();
    for sighting in &history.sightings {
        for id in &sighting.ids {
            if let Some(owner) = owners.get(id).filter(|owner| **owner != sighting.app) {
                found.add("I12", format!("{} showed {id} of app {owner} to app {}", sighting.place, sighting.app));
            }
        }
    }
}

/// I13: no twelve bytes in a row of a secret stand in anything that was printed. A secret shorter than that counts whole.
pub fn secrets_kept(history: &History, found: &mut Found) {
    let mut pieces: HashMap<&[u8], &str> = HashMap::new();
    let mut short = Vec::new();
    for secret in &history.secrets {
        if secret.text.len() < PIECE {
            short.push(secret);
        }
        pieces.extend(secret.text.as_bytes().windows(PIECE).map(|piece| (piece, secret.name.as_str())));
    }
    for output in &history.outputs {
        let mut said: HashSet<&str> = HashSet::new();
        if !pieces.is_empty() {
            said.extend(output.text.as_bytes().windows(PIECE).filter_map(|piece| pieces.get(piece)));
        }
        said.extend(short.iter().filter(|s| output.text.contains(&s.text)).map(|s| s.name.as_str()));
        for name in said {
            found.add("I13", format!("{} shows a piece of {name}", output.place));
        }
    }
}

/// I14: an idle socket costs a node at most 10 KB.
pub fn idle_memory(history: &History, found: &mut Found) {
    for idle in &history.idle_sockets {
        let each = idle.after.saturating_sub(idle.before) / idle.sockets.max(1);
        found.unless(each <= PER_IDLE_SOCKET, "I14", || {
            format!("each of {} idle sockets costs {} {each} bytes", idle.sockets, idle.node)
        });
    }
}

/// I15: half a minute after the faults end every node is healthy, and nobody had to restart it.
pub fn recovered(history: &History, found: &mut Found) {
    for recovery in &history.recoveries {
        let node = format!("{} after {}", recovery.node, recovery.fault);
        match recovery.healthy_after_ms {
            Some(ms) if ms <= HEALTHY_WITHIN => {}
            Some(ms) => found.add("I15", format!("{node}: healthy only after {ms} ms")),
            None => found.add("I15", format!("{node}: not healthy again")),
        }
        found.unless(!recovery.restarted, "I15", || format!("{node}: had to be restarted"));
    }
}
