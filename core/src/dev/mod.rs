//! What only `serve --dev` has: caught mail, demo users, `dev.json`.

pub mod mailbox;
