//! What only `serve --dev` has: caught mail, faults on purpose, demo users, a temporary data folder, `dev.json`.

pub mod faults;
pub mod folder;
pub mod mailbox;
pub mod record;
pub mod seed;
