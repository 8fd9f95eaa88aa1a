//! Messages that lapin can't read: found by their bytes, put aside, acknowledged.
//!
//! RabbitMQ takes a message whose properties are not UTF-8 and delivers it; lapin then ends the connection, and the message
//! comes again. One such message would stop all others, and use up their delivery limit. So when consumers end twice
//! without having got anywhere, the head of the queue is looked at here. Absent on purpose: messages that can be read. They go
//! back, for the consumer.

use super::desk::Desk;
use crate::amqp::{Broker, LinkError, raw::RawChannel, topology};
use campanile_model::ports::StoreError;

/// Twice what a consumer holds: the one that ended it is among these.
const LOOK_AT: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts aside what can't be read among the first messages; returns how many.
pub async fn put_aside(desk: &Desk, broker: &Broker) -> Result<usize, Error> {
    let mut channel = RawChannel::open(broker).await?;
    let mut found = 0;
    for _ in 0..LOOK_AT {
        let Some(message) = channel.get(topology::INGEST_QUEUE).await? else { break };
        if message.is_readable() {
            continue;
        }
        desk.put_aside_unread(&message).await?;
        channel.ack(message.tag).await?;
        found += 1;
    }
    channel.close().await?;
    Ok(found)
}
