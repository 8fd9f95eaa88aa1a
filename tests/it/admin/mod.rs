//! The console, as a browser without scripts sees it.

mod assets;
pub mod browser;
mod channels;
mod dead;
mod entry;
mod lists;
mod notifications;
mod overview;
mod people;
mod queues;
mod roles;
mod system;
