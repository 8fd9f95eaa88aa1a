//! What operators see and do, for scripts and the command line: scope `read` to look, `manage` to change.

mod admins;
mod audit;
mod channels;
mod connections;
mod dead_letters;
mod events;
mod instances;
mod keys;
mod nodes;
mod plugins;
mod poison;
mod queues;
mod suppressions;

pub use nodes::begin_drain;

use crate::http::ApiRoutes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .merge(channels::routes())
        .merge(instances::routes())
        .merge(plugins::routes())
        .merge(queues::routes())
        .merge(nodes::routes())
        .merge(connections::routes())
        .merge(dead_letters::routes())
        .merge(poison::routes())
        .merge(suppressions::routes())
        .merge(keys::routes())
        .merge(admins::routes())
        .merge(audit::routes())
        .merge(events::routes())
}
