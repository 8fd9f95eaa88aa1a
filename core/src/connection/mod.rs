//! People's live connections: who is here (hub), what the protocol says (session), what waits to be written (writer).

pub mod bus;
pub mod close;
pub mod hub;

pub use bus::LocalBus;
pub use hub::Hub;
