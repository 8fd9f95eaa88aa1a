//! What only `serve --dev` has: caught mail, demo users, a temporary data folder, `dev.json`.

pub mod folder;
pub mod mailbox;
pub mod record;
pub mod seed;
