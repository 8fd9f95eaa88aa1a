//! What a channel's author implements.
#![doc = include_str!("../README.md")]

mod bridge;
mod channel;
pub mod config;
mod contain;
mod context;
mod delivery;
mod executor;
mod ffi;
pub mod http;
mod info;
mod outcome;
mod secret;
mod slot;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod wire;

pub use channel::{Channel, DynChannel};
pub use config::{Span, Url};
pub use context::{Context, Level, LogLine, MetricKind, Sample, Services};
pub use delivery::{Delivery, Json, OwnedDelivery, Permission};
pub use http::{Http, HttpError, HttpReply};
pub use info::Info;
pub use outcome::{DeliveryError, Health, Problem, Reason, Receipt, StartError};
pub use secret::Secret;

#[doc(hidden)]
pub use campanile_plugin_abi as abi;
/// For [`export!`].
#[doc(hidden)]
pub mod __private {
    pub use crate::ffi::{entered, table};
}
pub use futures_util::future::BoxFuture;
pub use schemars;
pub use serde_json;

/// `use campanile_plugin::prelude::*;`
pub mod prelude {
    pub use crate::{
        Channel, Context, Delivery, DeliveryError, Health, Http, HttpError, HttpReply, Info, Level, Problem, Reason,
        Receipt, Secret, Span, StartError, Url, info,
    };
    pub use schemars::{self, JsonSchema};
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{self, Value, json};
    pub use std::time::Duration;
}
