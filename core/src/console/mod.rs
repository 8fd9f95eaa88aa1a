//! What the console knows: figures over time, kept in memory, summed over nodes.
//!
//! Owns: counting by channel ([`pulse`]), the rings of the last day and week ([`rings`]), the look every ten seconds and the
//! minute that is written down ([`ticker`]), how far the audit log was followed ([`chain`]), the facts a page is drawn from
//! ([`facts`], [`nodes`], [`connections`]), how each channel stands ([`standing`]). Absent on purpose: markup
//! (`admin-ui`), routes and sessions (`http/admin`), SQL.

pub mod chain;
pub mod connections;
pub mod facts;
pub mod nodes;
pub mod pulse;
pub mod rings;
pub mod sockets;
pub mod standing;
pub mod ticker;

pub use chain::{Chain, ChainView};
pub use facts::{Facts, FactsCache};
pub use pulse::Pulse;
pub use rings::Rings;
pub use ticker::start;

use std::sync::{Mutex, atomic::AtomicBool};
use tokio::sync::Notify;

/// What the console's parts share.
#[derive(Default)]
pub struct Console {
    pub rings: Mutex<Rings>,
    pub facts: FactsCache,
    /// Rings when an admin of this node did something: open pages are drawn again at once.
    pub acted: Notify,
    /// Something has been delivered, ever: the first steps are done.
    pub has_sent: AtomicBool,
    pub chain: Chain,
}
