//! Several nodes: what every one can say of all, and the bus between them.

mod alone;
mod bus;
mod links;
mod pair;
