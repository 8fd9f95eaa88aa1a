//! Who gets in: end users' tokens in every shape, tickets, origins, keys with scopes; and that no token leaks.

mod jwks;
mod jwt;
mod keys;
mod leaks;
mod origins;
mod tickets;
