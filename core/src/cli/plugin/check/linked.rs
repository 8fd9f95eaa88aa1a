//! What a file's bytes say of how it was built: names, libraries, libc, and, if our SDK made it, with which profile.
//!
//! None of this stops a load, so nothing here is more than a warning: a plugin may need a library, and its operator may have it.

use super::sheet::{Found, ok, skipped, warned};
use campanile_loader::Linked;
use campanile_plugin::{abi, wire::Description};

/// What every glibc system has.
const USUAL: [&str; 8] =
    ["libc.so.", "libm.so.", "libgcc_s.so.", "libpthread.so.", "libdl.so.", "librt.so.", "ld-linux", "libresolv.so."];
/// What a plugin of some size may carry for debuggers.
const DEBUG_INFO: u64 = 1024 * 1024;
/// Names that are shown.
const SHOWN: usize = 5;

/// The two names of the interface, and no other: a name more may be taken for another library's.
pub fn exports(linked: &Linked) -> Found {
    let ours = [abi::ENTRY, "campanile_plugin_manifest"];
    let more: Vec<_> = linked.exports.iter().map(String::as_str).filter(|name| !ours.contains(name)).collect();
    if more.is_empty() {
        return ok("nothing but the interface's own");
    }
    let rest = more.len().saturating_sub(SHOWN);
    let and = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    warned(format!(
        "{}{and}, beside the interface's own; another library may take them for its own: build with -fvisibility=hidden, \
         and make nothing but CAMP_EXPORT visible",
        more[..more.len().min(SHOWN)].join(", ")
    ))
}

pub fn needs(linked: &Linked) -> Found {
    let strange: Vec<_> =
        linked.needed.iter().filter(|name| !USUAL.iter().any(|usual| name.starts_with(usual))).cloned().collect();
    if !strange.is_empty() {
        let list = strange.join(", ");
        return warned(format!(
            "{list}: every server needs that installed; link it statically, or say so to whoever runs it"
        ));
    }
    let glibc = linked.glibc.map_or("any glibc".to_owned(), |(major, minor)| format!("glibc {major}.{minor} or newer"));
    if linked.needed.is_empty() { ok("no library") } else { ok(format!("{glibc}, and nothing that it does not bring")) }
}

pub fn build(linked: &Linked, description: &Description) -> Found {
    if let Some(built) = &description.built {
        if built.panic != "unwind" {
            return warned(format!(
                "panic = {:?}: a panic of it ends its process, and in-process the server; set panic = \"unwind\" in the \
                 profile that you build",
                built.panic
            ));
        }
        if built.debug {
            return warned("it was built without optimisation; ship what cargo build --release makes");
        }
    }
    if linked.debug_info > DEBUG_INFO {
        return warned(format!(
            "{} MiB of it are for debuggers; strip it (strip -g, or strip = true)",
            linked.debug_info / 1024 / 1024
        ));
    }
    match &description.built {
        Some(built) => ok(format!("by the SDK {}, optimised, panics are caught", built.sdk)),
        None => skipped("how it was optimised and what becomes of a panic stands in no file"),
    }
}
