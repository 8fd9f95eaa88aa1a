//! The exam that every bus passes. A case is an async function over a [`Place`]: a broker's own corner that no other test
//! uses. The cases of a bus that is alone stand in `alone`, those of several nodes in `together`, faults in `faults`.
//!
//! A broker is tried where `CAMPANILE_TEST_BUSES` names it. Redis is then the one of `CAMPANILE_TEST_REDIS`, RabbitMQ that
//! of `CAMPANILE_TEST_RABBITMQ` and `CAMPANILE_TEST_RABBITMQ_API`, with a vhost for each case.

mod alone;
mod faults;
mod hall;
mod place;
mod rabbitmq;
mod together;

pub(crate) use hall::*;
pub(crate) use place::*;

/// Each case on each broker, as a test of its own.
macro_rules! exam {
    ($($case:ident),+ $(,)?) => {
        mod rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if $crate::connection::bus::exam::asked("rabbitmq") {
                        super::$case($crate::connection::bus::exam::Place::rabbitmq().await).await;
                    }
                }
            )+
        }
        mod redis {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if $crate::connection::bus::exam::asked("redis") {
                        super::$case($crate::connection::bus::exam::Place::redis().await).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use exam;
