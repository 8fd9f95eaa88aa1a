//! People's live connections: who is here (`hub`), what is said (`session`, `protocol`), what waits (`inbox`), who
//! writes (`run`), how it looks on the wire (`transport`), how it ends (`close`).
//!
//! A push is a hint over the committed feed: commit → websocket channel → hub → bus → hub of every node → the inboxes
//! of that user's connections → each connection's own task. Absent on purpose: HTTP (credentials and upgrades are in
//! `http/ws.rs` and `http/sse.rs`), SQL, delivery state.

pub mod backend;
pub mod bus;
pub mod close;
pub mod confirm;
pub mod conn;
pub mod counts;
pub mod hub;
pub mod inbox;
pub mod ledger;
pub mod limits;
pub mod protocol;
pub mod rest;
pub mod run;
pub mod session;
pub mod ticks;
pub mod transport;
pub mod watch;

pub use bus::{LocalBus, NodeBus};
pub use conn::{ConnectionInfo, TransportKind};
pub use hub::Hub;
pub use rest::Rest;
pub use ticks::start;
