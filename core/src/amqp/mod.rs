//! RabbitMQ: supervised connections, what is declared on them, and what its refusals mean.
//!
//! Owns: connecting, noticing that a connection is dead, connecting again for ever, the names and arguments of queues and
//! exchanges. Absent on purpose: messages. The work queue and the ingest consumer each bring a [`Role`] and do
//! their own talking; the node bus takes a [`Live`] connection and watches it by its own echo. lapin's own recovery stays off: it gives up after sixteen tries and can't rebuild our names.

mod address;
mod connect;
mod error;
mod link;
pub mod raw;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod topology;

pub use address::Broker;
pub use connect::Live;
pub use error::{LinkError, is_not_found, plain};
pub use link::{Link, LinkParams, LinkState, Role};

use lapin::{Channel, Consumer};
use std::time::Duration;

/// How long a channel that nobody needs any more may take to close.
const RETIRE: Duration = Duration::from_secs(2);

/// Closes a channel in the background, so that what its consumer held goes back to the queue.
///
/// lapin would do it when the last handle is dropped, but then a cancel of the consumer and the close of its channel run
/// side by side, and whichever loses ends the whole connection with an error.
pub fn retire(channel: Channel, consumer: Option<Consumer>) {
    // Without a runtime the process is at its end, and the broker sees the socket close.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        if channel.status().connected() {
            let _ = tokio::time::timeout(RETIRE, channel.close(200, "done".into())).await;
        }
        drop(consumer);
    });
}
