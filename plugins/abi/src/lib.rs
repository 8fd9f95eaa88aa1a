//! The C interface between Campanile and its channel plugins, major 1, minor 0.
//!
//! Owns: the layouts of `include/campanile_plugin.h`, the accessors that obey `size`, the check of a plugin's table, and
//! the manifest. Absent on purpose: everything that allocates, blocks or decides. Authors in Rust want the crate
//! `campanile-plugin`, which never shows them these types; this one is for hosts, for other SDKs, and for Rust plugins
//! that do without one.
//!
//! No `std`, no dependencies, Rust 1.63.
//!
//! # Growth
//!
//! The writer of a struct sets `size`; the reader uses a field only if `size` covers it. New fields come at the end, and
//! nothing is ever reordered, retyped or removed. So fields are private here: a writer builds a struct with `new` and
//! setters, which fill in `size`; a reader has a [`View`], whose accessors give the documented default for what the other
//! side didn't know yet.
//!
//! ```
//! use campanile_plugin_abi::{status, Outcome, Str, View};
//!
//! let outcome = Outcome::new(status::RETRY).code(Str::new("busy")).retry_after_ms(1500);
//! // SAFETY: `outcome` and the text in it outlive the view.
//! let seen = unsafe { View::new(&outcome) }.unwrap();
//! assert_eq!((seen.status(), seen.code(), seen.message()), (status::RETRY, &b"busy"[..], &b""[..]));
//! ```
#![no_std]
#![allow(unsafe_code)] // Reading what came over a C line is unsafe by nature; each place says why it is sound.
#![warn(missing_docs, unsafe_op_in_unsafe_fn)]

mod check;
mod manifest;
mod structs;
#[cfg(test)]
extern crate std;
#[cfg(test)]
mod tests;
mod view;

pub use check::Refusal;
pub use manifest::{manifest_bytes, manifest_len, TARGET};
pub use structs::{
    CancelFn, CompleteFn, DeliverFn, Delivery, DescribeFn, DestroyFn, HealthFn, Host, HttpCallback, HttpFn,
    HttpRequest, HttpResponse, IsCancelledFn, Log, LogEnabledFn, LogFn, Metric, MetricFn, Outcome, Plugin, Sink,
    StartFn, StopFn, Str, TimerCallback, TimerFn, ValidateFn,
};
pub use view::{BadStruct, Growable, View};

/// The major version: it is in the entry's name, and a new one is a new table beside the old.
pub const MAJOR: u32 = 1;
/// The minor version: grows by appending.
pub const MINOR: u32 = 0;
/// The one function that a host looks up: [`EntryFn`].
pub const ENTRY: &str = "campanile_plugin_v1";
/// The exported text that a host reads before it runs any code.
pub const MANIFEST: &str = "campanile_plugin_manifest";
/// The section that this text is in; on Apple's systems in the segment `__DATA`.
#[cfg(not(target_vendor = "apple"))]
pub const SECTION: &str = ".camp";
/// The section that this text is in, in the segment `__DATA`.
#[cfg(target_vendor = "apple")]
pub const SECTION: &str = "__camp";
/// "No value" in a `u64`.
pub const UNSET: u64 = u64::MAX;

/// `campanile_plugin_v1`. Null refuses to load.
pub type EntryFn = unsafe extern "C" fn() -> *const Plugin;

/// How work ended: [`Outcome::new`]. Readers take an unknown one for [`INTERNAL`](status::INTERNAL).
pub mod status {
    /// The far side took responsibility.
    pub const OK: u32 = 0;
    /// Transient: try again later.
    pub const RETRY: u32 = 1;
    /// The far side says slow down.
    pub const THROTTLED: u32 = 2;
    /// This message can never go.
    pub const PERMANENT: u32 = 3;
    /// The address is dead.
    pub const RECIPIENT_GONE: u32 = 4;
    /// Our credentials or account: nothing will go until somebody acts.
    pub const MISCONFIGURED: u32 = 5;
    /// `cancel` was obeyed.
    pub const CANCELLED: u32 = 6;
    /// A fault of the plugin.
    pub const INTERNAL: u32 = 7;
}

/// Of [`Log`]. Readers take an unknown one for [`INFO`](level::INFO).
pub mod level {
    /// Somebody must act.
    pub const ERROR: u32 = 1;
    /// Somebody should look.
    pub const WARN: u32 = 2;
    /// Worth knowing.
    pub const INFO: u32 = 3;
    /// For finding faults.
    pub const DEBUG: u32 = 4;
    /// Every step.
    pub const TRACE: u32 = 5;
}

/// Of [`Metric`]. Readers ignore samples of an unknown one.
pub mod metric {
    /// The value is added.
    pub const COUNTER: u32 = 0;
    /// The value is set.
    pub const GAUGE: u32 = 1;
    /// The value is observed.
    pub const HISTOGRAM: u32 = 2;
}

/// Of [`Plugin`]. Unknown flags 0–15 are ignored, unknown flags 16–31 refuse the plugin.
pub mod flags {
    /// `deliver` may block; the host calls it on `max_concurrency` threads.
    pub const BLOCKING: u32 = 1;
    /// All that this version knows.
    pub const KNOWN: u32 = BLOCKING;
    /// Those that must be understood.
    pub const MANDATORY: u32 = 0xFFFF_0000;
}
