//! What sockets and event streams say, message by message.

mod classic;
mod closing;
mod events;
mod feed;
mod resume;
mod several;
mod v1;
