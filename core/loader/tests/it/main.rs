//! Real files through the whole loader, in both isolation levels: the acceptance table of plugins. Every plugin here is
//! built from source by this suite; the hostile ones are `villain.c`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers of tests panic as tests do.

mod admission;
mod build;
mod crashes;
mod hostile;
mod house;
mod life;
mod reload;
