//! What only `serve --dev` has: caught mail, caught webhooks, faults on purpose, demo users, a temporary data folder, `dev.json`.

pub mod faults;
pub mod folder;
pub mod hooks;
pub mod mailbox;
pub mod record;
pub mod seed;
