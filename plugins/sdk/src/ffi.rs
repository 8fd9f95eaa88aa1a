//! The C side of a loaded channel: the only unsafe code of this crate.
//!
//! Owns: the table that [`export!`](crate::export) publishes, the host's pointer, tokens and their ends. Absent on purpose:
//! what the bytes mean (`wire`), who runs futures (`executor`).
//!
//! Three rules hold everywhere here. No panic leaves a function. The host's pointer belongs to an instance and never to a
//! static. A token ends exactly once: its [`Guard`](work::Guard) does it when nobody else has.
#![allow(unsafe_code)] // Each place says why it is sound.

mod instance;
mod line;
mod table;
#[cfg(feature = "testing")]
pub(crate) mod test_host;
mod work;

pub(crate) use line::Line;
pub use table::{entered, table};

/// Makes the crate a channel: exports the table and the manifest of a [`Channel`](crate::Channel). Once, at the root of a
/// `cdylib`.
///
/// ```
/// # use campanile_plugin::prelude::*;
/// # #[derive(Deserialize, JsonSchema)]
/// # pub struct Config {}
/// pub struct Stdout;
///
/// impl Channel for Stdout {
///     type Config = Config;
///     const INFO: Info = info!("stdout");
///     async fn start(_: Config, _: Context) -> Result<Self, StartError> {
///         Ok(Self)
///     }
///     async fn deliver(&self, d: Delivery<'_>) -> Result<Receipt, DeliveryError> {
///         println!("{}: {}", d.recipient(), d.text());
///         Ok(Receipt::new())
///     }
/// }
///
/// campanile_plugin::export!(Stdout);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($channel:ty) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a channel must be able to catch its panics: remove `panic = \"abort\"` from its Cargo.toml, \
             or set `panic = \"unwind\"` in the profile that you build"
        );

        $crate::abi::manifest!(<$channel as $crate::Channel>::INFO.name, <$channel as $crate::Channel>::INFO.version);

        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        pub extern "C" fn campanile_plugin_v1() -> *const $crate::abi::Plugin {
            static TABLE: $crate::abi::Plugin = $crate::__private::table::<$channel>();
            $crate::__private::entered();
            &TABLE
        }
    };
}
