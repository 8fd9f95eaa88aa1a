//! `[server]`: How the host listens and stops.

use super::duration::Dur;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port; port 0 picks a free one.
    pub listen: String,
    /// Where people reach this server, for links in mails and the Origin check: `https://notify.example.org`.
    pub public_url: Option<String>,
    /// Folder of the SQLite file and generated secrets (files are made with mode 600).
    pub data_dir: PathBuf,
    /// Addresses or networks (CIDR) whose X-Forwarded-For is believed. None by default.
    pub trusted_proxies: Vec<String>,
    /// Most open connections; 0 means the file limit less a fifth.
    pub max_connections: usize,
    /// How long a client may take to send its request head.
    pub header_timeout: Dur,
    /// How long an API call may take in all.
    pub request_timeout: Dur,
    /// How long SIGTERM waits for deliveries under way; the process ends within 30 s.
    pub drain_timeout: Dur,
    /// Over how long a drain spreads the closing of sockets (code 1012).
    pub drain_spread: Dur,
}
