//! The websocket channel as a file: the crate that the host links, and the one line that makes a plugin of it.
//!
//! It loads and describes itself like any other. But the sockets are the host's, and the interface lends none to a file: its
//! `start` says so, and a server goes on with the channel that is linked in.

campanile_plugin::export!(campanile_websocket::Websocket);
