//! The words of Campanile: ids, states, notifications, plans, effects, and the ports between stages.
//!
//! Owns: every type that more than one stage speaks, the only table of legal delivery moves, the wire forms that
//! clients see. Absent on purpose: I/O, SQL, HTTP, async runtimes, clocks that tick.

pub mod api;
pub mod clock;
pub mod effects;
pub mod feed;
pub mod frame;
pub mod id;
pub mod notification;
pub mod plan;
pub mod ports;
pub mod signal;
pub mod state;
pub mod trace;
pub mod user;
pub mod work;

pub use clock::{Clock, Timestamp};
pub use id::{AppId, ChannelName, ConnId, DeliveryId, KeyId, NodeId, NotificationId, UserId, UserKey};
pub use notification::{Content, Notification, Priority};
pub use state::{DeliveryState, Reason};
pub use trace::TraceContext;
