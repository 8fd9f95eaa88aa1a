//! What a channel says of itself.

use std::time::Duration;

/// What a channel says of itself; constant over its life. Made by [`info!`](macro@crate::info) and the setters:
///
/// ```
/// # use campanile_plugin::{info, Info};
/// const INFO: Info = info!("sms").recipient("phone").max_concurrency(16).idempotent(true);
/// assert_eq!((INFO.name, INFO.recipient, INFO.max_batch), ("sms", "phone", 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// `[a-z][a-z0-9_]*`, at most 64 characters.
    pub name: &'static str,
    pub version: &'static str,
    /// For people; empty: the name.
    pub display_name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// SPDX expression; may be empty.
    pub license: &'static str,
    /// May be empty.
    pub homepage: &'static str,
    /// Who wrote it, as Cargo has it: `Ada <ada@example.org>:Bo`; may be empty.
    pub authors: &'static str,
    /// Address of its manual; may be empty.
    pub documentation: &'static str,
    /// Address of what changed from version to version; may be empty.
    pub changelog: &'static str,
    /// Hosts that it has to call through the host, for the operator who allows them: `api.example.org`, `*.example.org`.
    /// Asking gives it nothing.
    pub hosts: &'static [&'static str],
    /// Format of the recipient (`email`, `none`, or free text such as `phone`): the host checks what it knows.
    pub recipient: &'static str,
    /// Most items in one `deliver_batch`.
    pub max_batch: usize,
    /// Deliveries under way at once, unless the operator says less.
    pub max_concurrency: usize,
    /// The longest a delivery may take, at most 5 minutes.
    pub timeout: Duration,
    /// The far side honours `idempotency_key`: a lost attempt is not doubtful.
    pub idempotent: bool,
    /// Every delivery asks `may_proceed` before its point of no return, so a call that was cut short without having
    /// asked is not doubtful.
    pub asks_permission: bool,
    /// Parts the host renders from templates before it calls, of `subject`, `text`, `html`.
    pub content: &'static [&'static str],
    /// `process` or `in-process`, when the author has reason to prefer one.
    pub recommended_isolation: Option<&'static str>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $ty:ty,)*) => { $(
        $(#[$doc])*
        #[must_use]
        pub const fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    )* };
}

impl Info {
    /// One delivery at a time in a call, eight at once, 30 seconds each, everything rendered.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            display_name: "",
            description: "",
            license: "",
            homepage: "",
            authors: "",
            documentation: "",
            changelog: "",
            hosts: &[],
            recipient: "text",
            max_batch: 1,
            max_concurrency: 8,
            timeout: Duration::from_secs(30),
            idempotent: false,
            asks_permission: false,
            content: &["subject", "text", "html"],
            recommended_isolation: None,
        }
    }

    setters! {
        display_name: &'static str,
        description: &'static str,
        license: &'static str,
        homepage: &'static str,
        authors: &'static str,
        documentation: &'static str,
        changelog: &'static str,
        hosts: &'static [&'static str],
        recipient: &'static str,
        max_batch: usize,
        max_concurrency: usize,
        timeout: Duration,
        idempotent: bool,
        asks_permission: bool,
        content: &'static [&'static str],
    }

    /// `process` or `in-process`.
    #[must_use]
    pub const fn recommended_isolation(mut self, level: &'static str) -> Self {
        self.recommended_isolation = Some(level);
        self
    }
}

/// An [`Info`] with the name given and everything else that the crate's `Cargo.toml` knows.
#[macro_export]
macro_rules! info {
    ($name:expr) => {
        $crate::Info::new($name, ::core::env!("CARGO_PKG_VERSION"))
            .description(::core::env!("CARGO_PKG_DESCRIPTION"))
            .license(::core::env!("CARGO_PKG_LICENSE"))
            .homepage(::core::env!("CARGO_PKG_HOMEPAGE"))
            .authors(::core::env!("CARGO_PKG_AUTHORS"))
    };
}
