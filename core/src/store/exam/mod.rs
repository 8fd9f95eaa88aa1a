//! The exam that every store passes. A case is an async function over an [`Exam`]: a fresh store, what its sink heard, and
//! a handle on its clock. Nothing here knows an engine but `engines`.
//!
//! A new port method begins as a case here.

mod accepting;
mod audiences;
mod auditing;
mod clustering;
mod collapsing;
mod console;
mod desk;
pub(crate) mod engines;
mod erasing;
mod feeds;
mod hall;
mod instances;
mod marking;
mod merging;
mod operating;
mod pausing;
mod people;
mod retaining;
mod states;
mod sweeping;
mod triaging;
mod working;
mod writing;

pub(crate) use hall::*;

/// Runs each case on every engine.
macro_rules! exam {
    ($($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                for engine in crate::store::exam::engines::all() {
                    super::$case(crate::store::exam::Exam::on(engine).await).await;
                }
            }
        )+

        pub(crate) async fn all() {
            use crate::store::exam::{Engine, Exam};
            $(Box::pin(super::$case(Exam::on(Engine::Sqlite).await)).await;)+
        }
    };
}
pub(crate) use exam;

/// Each case once, on SQLite: for those who want to hear all that is ever asked.
macro_rules! every_case {
    ($($room:ident),+ $(,)?) => {
        pub(crate) async fn every_case() {
            $(Box::pin($room::tests::all()).await;)+
        }
    };
}
every_case!(
    accepting, audiences, auditing, clustering, collapsing, console, desk, erasing, feeds, instances, marking, merging,
    operating, pausing, people, retaining, states, sweeping, triaging, working, writing,
);
